#ifndef LIGER_KERNELS_SWIGLU_SWIGLU_IMPL_H_
#define LIGER_KERNELS_SWIGLU_SWIGLU_IMPL_H_

#include <ATen/core/Tensor.h>

#include <tuple>

namespace liger::kernels {

// Bodies of the dispatcher ops after their checks.
at::Tensor SwigluForward(const at::Tensor& gate, const at::Tensor& up);
std::tuple<at::Tensor, at::Tensor> SwigluBackward(const at::Tensor& dy, const at::Tensor& gate,
                                                  const at::Tensor& up);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_SWIGLU_SWIGLU_IMPL_H_
