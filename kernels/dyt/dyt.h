#ifndef LIGER_KERNELS_DYT_DYT_H_
#define LIGER_KERNELS_DYT_DYT_H_

#include <ATen/core/Tensor.h>

#include <optional>

namespace liger::kernels {

// Dynamic tanh, a layer in the place of a norm (Zhu et al. 2025, arXiv:2503.10622), differentiable
// in all four. Dispatcher op `liger::dyt`.
//   y = gamma * tanh(alpha * x) + beta                        in float32, rounded once
//   x_xH     [..., H], float32, bfloat16, float16 or float64
//   alpha    [1];  gamma_H [H];  beta_H [H], or none: x's dtype, or float32 for all that are there
// Returns [..., H] in x's dtype, contiguous. Saves x, alpha and gamma. Memory beyond results on a
// GPU: in backward two float32 a column for each block of rows, of which there are at most three
// for each multiprocessor. Gradients are summed in a fixed order: equal runs give equal bits.
// Second derivatives are not defined and throw.
// Throws c10::Error that names the argument and its shape: alpha not [1], gamma or beta not [H],
// mixed devices, unsupported dtype, x without dimensions or with H = 0.
at::Tensor Dyt(const at::Tensor& x_xH, const at::Tensor& alpha, const at::Tensor& gamma_H,
               const std::optional<at::Tensor>& beta_H);

namespace baseline {
// As its authors write it: torch.tanh(alpha * x) * gamma + beta.
at::Tensor Dyt(const at::Tensor& x_xH, const at::Tensor& alpha, const at::Tensor& gamma_H,
               const std::optional<at::Tensor>& beta_H);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_DYT_DYT_H_
