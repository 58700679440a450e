#ifndef LIGER_KERNELS_COMMON_GATED_H_
#define LIGER_KERNELS_COMMON_GATED_H_

#include <ATen/core/Tensor.h>

#include <tuple>

#include "kernels/common/activation.h"

// What swiglu and geglu share: y = act(gate) * up, forward and backward.
namespace liger::kernels {

// `op` is the name in the messages.
void CheckGated(const char* op, const at::Tensor& gate, const at::Tensor& up);
void CheckGatedBackward(const char* op, const at::Tensor& dy, const at::Tensor& gate,
                        const at::Tensor& up);

// Bodies of the dispatcher ops after their checks.
at::Tensor GatedForward(const char* op, Activation activation, const at::Tensor& gate,
                        const at::Tensor& up);
// dgate, dup. `y`, unless null: gets the forward pass's result again, in the memory of dy where
// that is contiguous; it may be &dy.
std::tuple<at::Tensor, at::Tensor> GatedBackward(const char* op, Activation activation,
                                                 const at::Tensor& dy, const at::Tensor& gate,
                                                 const at::Tensor& up, at::Tensor* y = nullptr);

// Contiguous, shaped as the gate; for Meta kernels.
at::Tensor GatedMeta(const at::Tensor& gate);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_GATED_H_
