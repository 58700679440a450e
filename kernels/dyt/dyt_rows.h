#ifndef LIGER_KERNELS_DYT_DYT_ROWS_H_
#define LIGER_KERNELS_DYT_DYT_ROWS_H_

#include <cstdint>

#include "kernels/common/vector.h"

namespace liger::kernels {

// One row of H elements; gamma and beta in float32.
void DytRow(const float* x, float alpha, const float* gamma, const float* beta, int64_t H,
            float* y);
void DytRow(const Bf16* x, float alpha, const float* gamma, const float* beta, int64_t H, Bf16* y);

// Writes dx if not null, adds to dgamma and dbeta if not null, and returns the row's share of
// dalpha. With t = tanh(alpha x), s = 1 - t^2:
//   dx = dy gamma s alpha;  dalpha = sum of dy gamma s x;  dgamma += dy t;  dbeta += dy
double DytBackwardRow(const float* dy, const float* x, float alpha, const float* gamma, int64_t H,
                      float* dx, float* dgamma, float* dbeta);
double DytBackwardRow(const Bf16* dy, const Bf16* x, float alpha, const float* gamma, int64_t H,
                      Bf16* dx, float* dgamma, float* dbeta);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_DYT_DYT_ROWS_H_
