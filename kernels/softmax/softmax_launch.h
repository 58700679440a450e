#ifndef LIGER_KERNELS_SOFTMAX_SOFTMAX_LAUNCH_H_
#define LIGER_KERNELS_SOFTMAX_SOFTMAX_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// softmax over `rows` contiguous rows of H elements; see softmax.h.
Error SoftmaxForward(const Queue& queue, const RowsShape& shape, const void* x, void* y);
Error SoftmaxBackward(const Queue& queue, const RowsShape& shape, const void* dy, const void* y,
                      void* dx);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_SOFTMAX_SOFTMAX_LAUNCH_H_
