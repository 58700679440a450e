#ifndef LIGER_KERNELS_SOFTMAX_SOFTMAX_ROWS_H_
#define LIGER_KERNELS_SOFTMAX_SOFTMAX_ROWS_H_

#include <cstdint>

#include "kernels/common/vector.h"

namespace liger::kernels {

// One row of H elements; `scratch` holds H numbers. REQUIRES: H > 0.
void SoftmaxRow(const float* x, int64_t H, float* scratch, float* y);
void SoftmaxRow(const Bf16* x, int64_t H, float* scratch, Bf16* y);

// dx = y (dy - sum of dy y)
void SoftmaxBackwardRow(const float* dy, const float* y, int64_t H, float* dx);
void SoftmaxBackwardRow(const Bf16* dy, const Bf16* y, int64_t H, Bf16* dx);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_SOFTMAX_SOFTMAX_ROWS_H_
