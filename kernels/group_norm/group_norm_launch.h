#ifndef LIGER_KERNELS_GROUP_NORM_GROUP_NORM_LAUNCH_H_
#define LIGER_KERNELS_GROUP_NORM_GROUP_NORM_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// x [N, C, L] in G groups of C / G channels; see group_norm.h.
struct GroupNormShape {
  Dtype dtype;         // of x
  Dtype weight_dtype;  // the same, or kFloat
  int64_t N, C, G, L;
};

// Float32 numbers of scratch that forward and backward take.
int64_t GroupNormForwardScratch(const GroupNormShape& shape);
int64_t GroupNormBackwardScratch(const GroupNormShape& shape);

// `bias` may be null. mean and rstd [N, G].
Error GroupNormForward(const Queue& queue, const GroupNormShape& shape, const void* x,
                       const void* weight, const void* bias, double eps, float* scratch, void* y,
                       float* mean, float* rstd);

// dx as x, dweight and dbias [C] (weight_dtype), each left out when null. The sums have a fixed
// order: equal inputs give equal bits on one kind of GPU.
struct GroupNormGrads {
  void *dx, *dweight, *dbias;
};
Error GroupNormBackward(const Queue& queue, const GroupNormShape& shape, const void* dy,
                        const void* x, const void* weight, const float* mean, const float* rstd,
                        float* scratch, const GroupNormGrads& out);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_GROUP_NORM_GROUP_NORM_LAUNCH_H_
