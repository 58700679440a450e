#ifndef LIGER_KERNELS_SWIGLU_SWIGLU_LAUNCH_H_
#define LIGER_KERNELS_SWIGLU_SWIGLU_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// swiglu over n contiguous elements; see swiglu.h.
Error SwigluForward(const Queue& queue, Dtype dtype, int64_t n, const void* gate, const void* up,
                    void* y);
// dgate may be gate, and dup may be up.
Error SwigluBackward(const Queue& queue, Dtype dtype, int64_t n, const void* dy, const void* gate,
                     const void* up, void* dgate, void* dup);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_SWIGLU_SWIGLU_LAUNCH_H_
