#ifndef LIGER_KERNELS_DYT_DYT_LAUNCH_H_
#define LIGER_KERNELS_DYT_DYT_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// dyt over `rows` contiguous rows of H elements; see dyt.h. `beta` may be null.
Error DytForward(const Queue& queue, const RowsShape& shape, const void* x, const void* alpha,
                 const void* gamma, const void* beta, void* y);

// Float32 numbers of scratch that backward takes.
int64_t DytBackwardScratch(const Queue& queue, const RowsShape& shape);

// dx as x, dalpha [1], dgamma and dbeta [H] (weight_dtype), each left out when null. The sums have
// a fixed order: equal inputs give equal bits on one kind of GPU.
struct DytGrads {
  void *dx, *dalpha, *dgamma, *dbeta;
};
Error DytBackward(const Queue& queue, const RowsShape& shape, const void* dy, const void* x,
                  const void* alpha, const void* gamma, float* scratch, const DytGrads& out);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_DYT_DYT_LAUNCH_H_
