#ifndef LIGER_KERNELS_ROPE_ROPE_ROWS_H_
#define LIGER_KERNELS_ROPE_ROPE_ROWS_H_

#include <cstdint>

#include "kernels/common/vector.h"

namespace liger::kernels {

// One head of one token: the first R of D elements rotated, the rest copied. y may be x.
void RopeRow(const float* x, const float* cos, const float* sin, int64_t R, int64_t D, float* y);
void RopeRow(const Bf16* x, const float* cos, const float* sin, int64_t R, int64_t D, Bf16* y);

// The transpose of RopeRow's matrix. dx may be dy.
void RopeBackwardRow(const float* dy, const float* cos, const float* sin, int64_t R, int64_t D,
                     float* dx);
void RopeBackwardRow(const Bf16* dy, const float* cos, const float* sin, int64_t R, int64_t D,
                     Bf16* dx);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_ROPE_ROPE_ROWS_H_
