#ifndef LIGER_KERNELS_RMS_NORM_RMS_NORM_ROWS_H_
#define LIGER_KERNELS_RMS_NORM_RMS_NORM_ROWS_H_

#include <cstdint>

#include "kernels/common/vector.h"

namespace liger::kernels {

// One row of H elements. `w` is weight + offset in float32. `round_xhat`: x * rstd is
// rounded to T before the multiplication with w (RmsNormCasting::kLlama).

// out = a + b.
void AddRow(const float* a, const float* b, int64_t H, float* out);
void AddRow(const Bf16* a, const Bf16* b, int64_t H, Bf16* out);

// Writes y, returns rstd.
float RmsNormRow(const float* x, const float* w, int64_t H, double eps, bool round_xhat, float* y);
float RmsNormRow(const Bf16* x, const float* w, int64_t H, double eps, bool round_xhat, Bf16* y);

// Writes dx if not null and adds to dw if not null:
//   xhat = x rstd;  dw += dy xhat;  dx = rstd (dy w - xhat mean(dy w xhat)) + dsum
// dsum may be null.
void RmsNormBackwardRow(const float* dy, const float* x, const float* w, float rstd, int64_t H,
                        bool round_xhat, const float* dsum, float* dx, float* dw);
void RmsNormBackwardRow(const Bf16* dy, const Bf16* x, const float* w, float rstd, int64_t H,
                        bool round_xhat, const Bf16* dsum, Bf16* dx, float* dw);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_RMS_NORM_RMS_NORM_ROWS_H_
