#ifndef LIGER_KERNELS_COMMON_GATED_LAUNCH_H_
#define LIGER_KERNELS_COMMON_GATED_LAUNCH_H_

#include "kernels/common/activation.h"
#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// y = act(gate) * up over n contiguous elements.
Error GatedForward(const Queue& queue, Activation activation, Dtype dtype, int64_t n,
                   const void* gate, const void* up, void* y);
// dgate may be gate, and dup may be up. y, unless null: act(gate) * up; it may be dy.
Error GatedBackward(const Queue& queue, Activation activation, Dtype dtype, int64_t n,
                    const void* dy, const void* gate, const void* up, void* dgate, void* dup,
                    void* y);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_GATED_LAUNCH_H_
