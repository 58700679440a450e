#ifndef LIGER_KERNELS_SWIGLU_SWIGLU_H_
#define LIGER_KERNELS_SWIGLU_SWIGLU_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// The gate of SwiGLU (Shazeer 2020, arXiv:2002.05202, eq. 6), without its matrices:
//   y = silu(gate) * up,  silu(z) = z / (1 + exp(-z))
// Differentiable in both. Dispatcher op `liger::swiglu`.
//   gate_xI, up_xI: the same shape and dtype (float32, bfloat16, float16, float64)
// Returns a contiguous tensor of that shape and dtype; computed in float32, rounded once.
// Saves its two inputs; silu(gate) is computed again in backward.
// Arguments that are not contiguous are copied, their gradients too.
// Throws c10::Error that names the argument and its shape.
at::Tensor Swiglu(const at::Tensor& gate_xI, const at::Tensor& up_xI);

namespace baseline {
// As transformers' LlamaMLP writes it: silu(gate) * up.
at::Tensor Swiglu(const at::Tensor& gate_xI, const at::Tensor& up_xI);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_SWIGLU_SWIGLU_H_
