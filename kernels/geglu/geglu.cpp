#include "kernels/geglu/geglu.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/gated.h"
#include "kernels/common/path_of.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "geglu";

Activation Parse(c10::string_view approximate) {
  if (approximate == "tanh") return Activation::kGeluTanh;
  TORCH_CHECK_VALUE(approximate == "none", kOp, ": approximate is '", approximate,
                    "', expected 'none' or 'tanh'");
  return Activation::kGelu;
}

const char* Name(GeluApproximate approximate) {
  return approximate == GeluApproximate::kTanh ? "tanh" : "none";
}

at::Tensor Forward(const at::Tensor& gate, const at::Tensor& up, c10::string_view approximate) {
  CheckGated(kOp, gate, up);
  RecordPath(Op::kGeglu, PathOf(gate));
  return GatedForward(kOp, Parse(approximate), gate, up);
}

at::Tensor ForwardMeta(const at::Tensor& gate, const at::Tensor& up, c10::string_view approximate) {
  CheckGated(kOp, gate, up);
  Parse(approximate);
  return GatedMeta(gate);
}

std::tuple<at::Tensor, at::Tensor> Backward(const at::Tensor& dy, const at::Tensor& gate,
                                            const at::Tensor& up, c10::string_view approximate) {
  CheckGatedBackward(kOp, dy, gate, up);
  return GatedBackward(kOp, Parse(approximate), dy, gate, up);
}

std::tuple<at::Tensor, at::Tensor> BackwardMeta(const at::Tensor& dy, const at::Tensor& gate,
                                                const at::Tensor& up,
                                                c10::string_view approximate) {
  CheckGatedBackward(kOp, dy, gate, up);
  Parse(approximate);
  return {GatedMeta(gate), GatedMeta(gate)};
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& gate,
                            const at::Tensor& up, std::string approximate) {
    at::AutoDispatchBelowADInplaceOrView guard;
    static const auto op = FindOp<decltype(Forward)>("liger::geglu");
    at::Tensor y = op.call(gate, up, approximate);
    ctx->save_for_backward({gate, up});
    ctx->saved_data["approximate"] = std::move(approximate);
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::geglu_backward");
    const auto saved = ctx->get_saved_variables();
    auto [dgate, dup] =
        op.call(grads[0], saved[0], saved[1], ctx->saved_data["approximate"].toStringRef());
    return {dgate, dup, {}};
  }
};

at::Tensor WithAutograd(const at::Tensor& gate, const at::Tensor& up,
                        c10::string_view approximate) {
  return Function::apply(gate, up, std::string(approximate));
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def("geglu(Tensor gate, Tensor up, str approximate='none') -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.def("geglu_backward(Tensor grad, Tensor gate, Tensor up, str approximate) -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("geglu", Forward);
  m.impl("geglu_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("geglu", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("geglu", ForwardMeta);
  m.impl("geglu_backward", BackwardMeta);
}

}  // namespace

at::Tensor Geglu(const at::Tensor& gate, const at::Tensor& up, GeluApproximate approximate) {
  static const auto op = FindOp<decltype(Forward)>("liger::geglu");
  return op.call(gate, up, Name(approximate));
}

}  // namespace liger::kernels
