#ifndef LIGER_KERNELS_LAYER_NORM_LAYER_NORM_IMPL_H_
#define LIGER_KERNELS_LAYER_NORM_LAYER_NORM_IMPL_H_

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace liger::kernels {

// Bodies of the dispatcher ops after their checks. mean and rstd have x's shape without the last
// dimension.
using LayerNormForwardResult = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // y, mean, rstd
// dx, dweight, dbias (weight's dtype). Those that are not needed come back as empty [0] tensors.
using LayerNormBackwardResult = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

struct LayerNormNeeds {
  bool dx, dweight, dbias;
};

LayerNormForwardResult LayerNormForward(const at::Tensor& x, const at::Tensor& weight,
                                        const std::optional<at::Tensor>& bias, double eps);
LayerNormBackwardResult LayerNormBackward(const at::Tensor& dy, const at::Tensor& x,
                                          const at::Tensor& weight, const at::Tensor& mean,
                                          const at::Tensor& rstd, LayerNormNeeds needs);

// REQUIRES: kHasCuda, and HasCudaKernels(x).
LayerNormForwardResult LayerNormForwardCuda(const at::Tensor& x, const at::Tensor& weight,
                                            const std::optional<at::Tensor>& bias, double eps);
LayerNormBackwardResult LayerNormBackwardCuda(const at::Tensor& dy, const at::Tensor& x,
                                              const at::Tensor& weight, const at::Tensor& mean,
                                              const at::Tensor& rstd, LayerNormNeeds needs);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_LAYER_NORM_LAYER_NORM_IMPL_H_
