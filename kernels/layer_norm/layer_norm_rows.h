#ifndef LIGER_KERNELS_LAYER_NORM_LAYER_NORM_ROWS_H_
#define LIGER_KERNELS_LAYER_NORM_LAYER_NORM_ROWS_H_

#include <cstdint>

#include "kernels/common/row_stats.h"

namespace liger::kernels {

using LayerNormStats = RowStats;

// One row of H elements; w and b in float32.
LayerNormStats LayerNormRow(const float* x, const float* w, const float* b, int64_t H, double eps,
                            float* y);
LayerNormStats LayerNormRow(const Bf16* x, const float* w, const float* b, int64_t H, double eps,
                            Bf16* y);

// Writes dx if not null, adds to dw and db if not null:
//   xhat = (x - mean) rstd;  g = dy w;  dx = rstd (g - mean(g) - xhat mean(g xhat))
//   dw += dy xhat;  db += dy
void LayerNormBackwardRow(const float* dy, const float* x, const float* w, LayerNormStats stats,
                          int64_t H, float* dx, float* dw, float* db);
void LayerNormBackwardRow(const Bf16* dy, const Bf16* x, const float* w, LayerNormStats stats,
                          int64_t H, Bf16* dx, float* dw, float* db);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_LAYER_NORM_LAYER_NORM_ROWS_H_
