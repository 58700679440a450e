#ifndef LIGER_KERNELS_SOFTMAX_SOFTMAX_IMPL_H_
#define LIGER_KERNELS_SOFTMAX_SOFTMAX_IMPL_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// Bodies of the dispatcher ops after their checks.
at::Tensor SoftmaxForward(const at::Tensor& x);
at::Tensor SoftmaxBackward(const at::Tensor& dy, const at::Tensor& y);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_SOFTMAX_SOFTMAX_IMPL_H_
