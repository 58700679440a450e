#ifndef LIGER_KERNELS_LAYER_NORM_LAYER_NORM_H_
#define LIGER_KERNELS_LAYER_NORM_LAYER_NORM_H_

#include <ATen/core/Tensor.h>

#include <optional>

namespace liger::kernels {

// Layer normalisation (Ba et al. 2016, arXiv:1607.06450) over the last dimension, differentiable
// in x, weight and bias. Dispatcher op `liger::layer_norm`.
//   mean = mean of x over H,  rstd = 1 / sqrt(mean((x - mean)^2) + eps)      in float32
//   y    = (x - mean) * rstd * weight + bias                                 rounded once
//   x_xH           [..., H], float32, bfloat16, float16 or float64
//   weight_H       [H]; the same dtype as x, or float32
//   bias_H         [H], of weight's dtype; or none
// The variance is that of the centred values (two passes over a row on chip), so that it loses no
// digits to a mean far from zero; y loses those that the mean has not in float32. Returns [..., H]
// in x's dtype, contiguous.
// Saves x, weight, mean and rstd (two float32 a row) for backward. Gradients are summed in a
// fixed order: equal runs give equal bits. Backward on a GPU takes float32 [blocks, H] as scratch
// for each of dweight and dbias, some blocks a processor.
// Arguments that are not contiguous are copied, their gradients too.
// Throws c10::Error that names the argument and its shape: weight or bias not [H], mixed devices,
// unsupported dtype, eps not positive, x without dimensions or with H = 0.
at::Tensor LayerNorm(const at::Tensor& x_xH, const at::Tensor& weight_H,
                     const std::optional<at::Tensor>& bias_H, double eps);

namespace baseline {
// As transformers writes it: torch.nn.LayerNorm.
at::Tensor LayerNorm(const at::Tensor& x_xH, const at::Tensor& weight_H,
                     const std::optional<at::Tensor>& bias_H, double eps);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_LAYER_NORM_LAYER_NORM_H_
