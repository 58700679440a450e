#ifndef LIGER_KERNELS_COMMON_HEAD_BUFFERS_H_
#define LIGER_KERNELS_COMMON_HEAD_BUFFERS_H_

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <optional>

#include "kernels/common/check.h"
#include "kernels/common/cpu.h"

namespace liger::kernels {

// In the place of an output or a gradient that was not asked for: [0].
inline at::Tensor None(const at::Tensor& like) { return at::empty({0}, like.options()); }

// Of what a head's results are summed in.
inline c10::TensorOptions ComputeOf(const at::Tensor& hidden) {
  return hidden.options().dtype(ComputeDtype(hidden));
}

inline bool NeedsGrad(const std::optional<at::Tensor>& t) {
  return c10::GradMode::is_enabled() && t.has_value() && t->requires_grad();
}

// With a buffer for one parameter of a linear head, autograd reaches neither: the other one
// must have a buffer too if it is trained, or its gradient would be lost.
inline void CheckBuffersCoverHead(const char* op, const at::Tensor& weight,
                                  const std::optional<at::Tensor>& bias,
                                  const std::optional<at::Tensor>& grad_weight,
                                  const std::optional<at::Tensor>& grad_bias) {
  TORCH_CHECK(grad_weight.has_value() || !NeedsGrad(weight), op, ": weight of shape ",
              weight.sizes(), " needs a gradient, so grad_bias needs a grad_weight beside it");
  TORCH_CHECK(grad_bias.has_value() || !NeedsGrad(bias), op,
              ": bias needs a gradient, so grad_weight needs a grad_bias beside it");
}

// A buffer for one of a linear head's gradients, if there is one: of hidden's compute dtype and
// device, contiguous, of this shape.
inline void CheckHeadBuffer(const char* op, const char* name,
                            const std::optional<at::Tensor>& buffer, const at::Tensor& hidden,
                            c10::SymIntArrayRef shape, const char* meaning) {
  if (!buffer.has_value()) return;
  const Arg arg{op, name, *buffer};
  CheckDtype(arg, ComputeDtype(hidden));
  CheckShape(arg, shape, meaning);
  CheckSameDevice(arg, {op, "hidden", hidden});
  CheckContiguous(arg);
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_HEAD_BUFFERS_H_
