#ifndef LIGER_KERNELS_GEGLU_GEGLU_H_
#define LIGER_KERNELS_GEGLU_GEGLU_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// Which gelu (Hendrycks and Gimpel 2016, arXiv:1606.08415): z Phi(z), with Phi the normal
// distribution's, or with Phi(z) ~ (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2, as Gemma has
// it. PyTorch's `approximate` "none" and "tanh".
enum class GeluApproximate { kNone, kTanh };

// The gate of GEGLU (Shazeer 2020, arXiv:2002.05202, eq. 6), without its matrices:
//   y = gelu(gate) * up
// Differentiable in both. Dispatcher op `liger::geglu`.
//   gate_xI, up_xI: the same shape and dtype (float32, bfloat16, float16, float64)
// Returns a contiguous tensor of that shape and dtype; computed in float32, rounded once.
// Saves its two inputs; gelu(gate) is computed again in backward.
// Arguments that are not contiguous are copied, their gradients too.
// Throws c10::Error that names the argument and its shape.
at::Tensor Geglu(const at::Tensor& gate_xI, const at::Tensor& up_xI,
                 GeluApproximate approximate = GeluApproximate::kNone);

namespace baseline {
// As transformers' GemmaMLP writes it: gelu(gate) * up.
at::Tensor Geglu(const at::Tensor& gate_xI, const at::Tensor& up_xI,
                 GeluApproximate approximate = GeluApproximate::kNone);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_GEGLU_GEGLU_H_
