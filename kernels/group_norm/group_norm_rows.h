#ifndef LIGER_KERNELS_GROUP_NORM_GROUP_NORM_ROWS_H_
#define LIGER_KERNELS_GROUP_NORM_GROUP_NORM_ROWS_H_

#include <cstdint>

#include "kernels/common/row_stats.h"

namespace liger::kernels {

// One group: `channels` runs of L elements, one after the other; w and b [channels].
RowStats GroupNormRow(const float* x, const float* w, const float* b, int64_t channels, int64_t L,
                      double eps, float* y);
RowStats GroupNormRow(const Bf16* x, const float* w, const float* b, int64_t channels, int64_t L,
                      double eps, Bf16* y);

// Writes dx if not null, adds to dw and db [channels] if not null:
//   xhat = (x - mean) rstd;  g = dy w;  dx = rstd (g - mean(g) - xhat mean(g xhat))
//   dw += sum over L of dy xhat;  db += sum over L of dy
void GroupNormBackwardRow(const float* dy, const float* x, const float* w, RowStats stats,
                          int64_t channels, int64_t L, float* dx, float* dw, float* db);
void GroupNormBackwardRow(const Bf16* dy, const Bf16* x, const float* w, RowStats stats,
                          int64_t channels, int64_t L, Bf16* dx, float* dw, float* db);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_GROUP_NORM_GROUP_NORM_ROWS_H_
