#ifndef LIGER_KERNELS_LAYER_NORM_LAYER_NORM_LAUNCH_H_
#define LIGER_KERNELS_LAYER_NORM_LAYER_NORM_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// layer_norm over `rows` contiguous rows of H elements; see layer_norm.h. mean and rstd [rows].
// `bias` may be null.
Error LayerNormForward(const Queue& queue, const RowsShape& shape, const void* x,
                       const void* weight, const void* bias, double eps, void* y, float* mean,
                       float* rstd);

// Rows of each float32 scratch [ScratchRows, H] that a column's gradient is summed in.
int64_t LayerNormScratchRows(const Queue& queue, const RowsShape& shape);

// dx [rows, H], dweight and dbias [H] (weight_dtype), each left out when null; a scratch is needed
// for each of the latter two that is not. The sums have a fixed order: equal inputs give equal
// bits on one kind of GPU.
struct LayerNormGrads {
  void *dx, *dweight, *dbias;
  float *dweight_scratch, *dbias_scratch;
};
Error LayerNormBackward(const Queue& queue, const RowsShape& shape, const void* dy, const void* x,
                        const void* weight, const float* mean, const float* rstd,
                        const LayerNormGrads& out);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_LAYER_NORM_LAYER_NORM_LAUNCH_H_
