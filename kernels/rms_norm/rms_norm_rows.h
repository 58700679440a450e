#ifndef LIGER_KERNELS_RMS_NORM_RMS_NORM_ROWS_H_
#define LIGER_KERNELS_RMS_NORM_RMS_NORM_ROWS_H_

#include <cstdint>

#include "kernels/common/vector.h"

namespace liger::kernels {

// One row of H elements. `w` is weight + offset in float32. `round_xhat`: x * rstd is
// rounded to T before the multiplication with w (RmsNormCasting::kLlama).

// Writes y, returns rstd.
float RmsNormRow(const float* x, const float* w, int64_t H, double eps, bool round_xhat, float* y);
float RmsNormRow(const Bf16* x, const float* w, int64_t H, double eps, bool round_xhat, Bf16* y);

// Writes dx if not null and adds to dw if not null:
//   xhat = x rstd;  dw += dy xhat;  dx = rstd (dy w - xhat mean(dy w xhat))
void RmsNormBackwardRow(const float* dy, const float* x, const float* w, float rstd, int64_t H,
                        bool round_xhat, float* dx, float* dw);
void RmsNormBackwardRow(const Bf16* dy, const Bf16* x, const float* w, float rstd, int64_t H,
                        bool round_xhat, Bf16* dx, float* dw);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_RMS_NORM_RMS_NORM_ROWS_H_
