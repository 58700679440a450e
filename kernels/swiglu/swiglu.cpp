#include "kernels/swiglu/swiglu.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/gated.h"
#include "kernels/common/path_of.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "swiglu";

at::Tensor Forward(const at::Tensor& gate, const at::Tensor& up) {
  CheckGated(kOp, gate, up);
  RecordPath(Op::kSwiglu, PathOf(gate));
  return GatedForward(kOp, Activation::kSilu, gate, up);
}

at::Tensor ForwardMeta(const at::Tensor& gate, const at::Tensor& up) {
  CheckGated(kOp, gate, up);
  return GatedMeta(gate);
}

std::tuple<at::Tensor, at::Tensor> Backward(const at::Tensor& dy, const at::Tensor& gate,
                                            const at::Tensor& up) {
  CheckGatedBackward(kOp, dy, gate, up);
  return GatedBackward(kOp, Activation::kSilu, dy, gate, up);
}

std::tuple<at::Tensor, at::Tensor> BackwardMeta(const at::Tensor& dy, const at::Tensor& gate,
                                                const at::Tensor& up) {
  CheckGatedBackward(kOp, dy, gate, up);
  return {GatedMeta(gate), GatedMeta(gate)};
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& gate,
                            const at::Tensor& up) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({gate, up});
    return Swiglu(gate, up);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::swiglu_backward");
    const auto saved = ctx->get_saved_variables();
    auto [dgate, dup] = op.call(grads[0], saved[0], saved[1]);
    return {dgate, dup};
  }
};

at::Tensor WithAutograd(const at::Tensor& gate, const at::Tensor& up) {
  return Function::apply(gate, up);
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def("swiglu(Tensor gate, Tensor up) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.def("swiglu_backward(Tensor grad, Tensor gate, Tensor up) -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("swiglu", Forward);
  m.impl("swiglu_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("swiglu", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("swiglu", ForwardMeta);
  m.impl("swiglu_backward", BackwardMeta);
}

}  // namespace

at::Tensor Swiglu(const at::Tensor& gate, const at::Tensor& up) {
  static const auto op = FindOp<decltype(Forward)>("liger::swiglu");
  return op.call(gate, up);
}

}  // namespace liger::kernels
