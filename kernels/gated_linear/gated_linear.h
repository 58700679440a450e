#ifndef LIGER_KERNELS_GATED_LINEAR_GATED_LINEAR_H_
#define LIGER_KERNELS_GATED_LINEAR_GATED_LINEAR_H_

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/common/activation.h"

namespace liger::kernels {

// The second half of a gated feed-forward layer: the gate and the product that follows,
//   y = (act(gate) * up) W^T + b
// of `liger::swiglu` or `liger::geglu` and `liger::linear`, whose paths it records and whose
// numbers it gives, in the gradients too. It saves gate and up, but not their product
// act(gate) * up, which the gradient of W needs: the kernel of the gate's backward pass, which
// reads gate and up anyway, writes it again, into the memory of its own gradient. Of a layer's
// activations that is a fifth.
//   gate_TF, up_TF [T, F], the same dtype
//   weight_DF      [D, F];  bias_D [D] or nullopt
// Returns [T, D]. Differentiable in all of them.
// Throws c10::Error that names the argument and its shape, as the two ops.
at::Tensor GatedLinear(Activation activation, const at::Tensor& gate_TF, const at::Tensor& up_TF,
                       const at::Tensor& weight_DF,
                       const std::optional<at::Tensor>& bias_D = std::nullopt);

// As LinearForGradients: the node in the graph of gradients alone, for a layer that is computed
// again for its gradients; NaN in the right shape, without memory of its own.
at::Tensor GatedLinearForGradients(Activation activation, const at::Tensor& gate_TF,
                                   const at::Tensor& up_TF, const at::Tensor& weight_DF,
                                   const std::optional<at::Tensor>& bias_D = std::nullopt);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_GATED_LINEAR_GATED_LINEAR_H_
