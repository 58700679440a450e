#ifndef LIGER_KERNELS_SOFTMAX_SOFTMAX_H_
#define LIGER_KERNELS_SOFTMAX_SOFTMAX_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// Softmax over the last dimension, differentiable in x. Dispatcher op `liger::softmax`.
//   y_h  = exp(x_h - max) / sum over j of exp(x_j - max)
//   dx_h = y_h (dy_h - sum over j of dy_j y_j)
//   x_xH [..., H], float32, bfloat16, float16 or float64
// Returns [..., H] in x's dtype, contiguous; computed in float32, rounded once. A row that is -inf
// throughout is NaN, as PyTorch has it. Saves y. Equal runs give equal bits. Second derivatives
// are not defined and throw.
// Arguments that are not contiguous are copied, their gradients too.
// Throws c10::Error that names the argument and its shape: x without dimensions, unsupported dtype.
at::Tensor Softmax(const at::Tensor& x_xH);

namespace baseline {
// torch.softmax(x, dim=-1).
at::Tensor Softmax(const at::Tensor& x_xH);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_SOFTMAX_SOFTMAX_H_
