#ifndef LIGER_KERNELS_DYT_DYT_IMPL_H_
#define LIGER_KERNELS_DYT_DYT_IMPL_H_

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace liger::kernels {

// dx, dalpha, dgamma, dbeta. Those that are not needed come back as empty [0] tensors.
using DytGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

struct DytNeeds {
  bool dx, dalpha, dgamma, dbeta;
};

// Bodies of the dispatcher ops after their checks.
at::Tensor DytForward(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
                      const std::optional<at::Tensor>& beta);
DytGradients DytBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& alpha,
                         const at::Tensor& gamma, DytNeeds needs);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_DYT_DYT_IMPL_H_
