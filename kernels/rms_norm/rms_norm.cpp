#include "kernels/rms_norm/rms_norm.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/path_of.h"
#include "kernels/rms_norm/rms_norm_impl.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "rms_norm";

using ForwardResult = std::tuple<at::Tensor, at::Tensor>;  // y, rstd

ForwardResult Forward(const at::Tensor& x, const at::Tensor& weight, double eps, double offset,
                      c10::string_view casting_mode) {
  CheckRmsNormForward(kOp, x, weight, eps);
  const RmsNormCasting casting = ParseRmsNormCasting(kOp, casting_mode);
  RecordPath(Op::kRmsNorm, PathOf(x));
  RmsNormOutput out = RmsNormForward(kOp, x, std::nullopt, weight, eps, offset, casting);
  return {out.y, out.rstd};
}

ForwardResult ForwardMeta(const at::Tensor& x, const at::Tensor& weight, double eps, double,
                          c10::string_view casting_mode) {
  CheckRmsNormForward(kOp, x, weight, eps);
  ParseRmsNormCasting(kOp, casting_mode);
  return {at::empty_symint(x.sym_sizes(), x.options()), RmsNormRstdMeta(x)};
}

RmsNormBackwardResult Backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& rstd, double offset, c10::string_view casting_mode,
                               bool need_dx, bool need_dweight) {
  CheckRmsNormBackward(kOp, "x", dy, x, weight, rstd);
  return RmsNormBackward(kOp, dy, std::nullopt, x, weight, rstd, offset,
                         ParseRmsNormCasting(kOp, casting_mode), need_dx, need_dweight);
}

RmsNormBackwardResult BackwardMeta(const at::Tensor& dy, const at::Tensor& x,
                                   const at::Tensor& weight, const at::Tensor& rstd, double,
                                   c10::string_view, bool need_dx, bool need_dweight) {
  CheckRmsNormBackward(kOp, "x", dy, x, weight, rstd);
  return RmsNormBackwardMeta(x, weight, need_dx, need_dweight);
}

ForwardResult CallForward(const at::Tensor& x, const at::Tensor& weight, double eps, double offset,
                          c10::string_view casting_mode) {
  static const auto op = FindOp<decltype(Forward)>("liger::rms_norm_forward");
  return op.call(x, weight, eps, offset, casting_mode);
}

at::Tensor WithoutAutograd(const at::Tensor& x, const at::Tensor& weight, double eps, double offset,
                           c10::string_view casting_mode) {
  return std::get<0>(CallForward(x, weight, eps, offset, casting_mode));
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& weight, double eps, double offset,
                            std::string casting_mode) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [y, rstd] = CallForward(x, weight, eps, offset, casting_mode);
    ctx->save_for_backward({x, weight, rstd});
    ctx->saved_data["offset"] = offset;
    ctx->saved_data["casting_mode"] = std::move(casting_mode);
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::rms_norm_backward");
    const auto saved = ctx->get_saved_variables();
    auto [dx, dweight] =
        op.call(grads[0], saved[0], saved[1], saved[2], ctx->saved_data["offset"].toDouble(),
                ctx->saved_data["casting_mode"].toStringRef(), ctx->needs_input_grad(0),
                ctx->needs_input_grad(1));
    return {ctx->needs_input_grad(0) ? dx : at::Tensor(),
            ctx->needs_input_grad(1) ? dweight : at::Tensor(),
            {},
            {},
            {}};
  }
};

at::Tensor WithAutograd(const at::Tensor& x, const at::Tensor& weight, double eps, double offset,
                        c10::string_view casting_mode) {
  return Function::apply(x, weight, eps, offset, std::string(casting_mode));
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "rms_norm(Tensor x, Tensor weight, float eps=1e-6, float offset=0.0, "
      "str casting_mode='llama') -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "rms_norm_forward(Tensor x, Tensor weight, float eps, float offset, str casting_mode) "
      "-> (Tensor y, Tensor rstd)");
  m.def(
      "rms_norm_backward(Tensor grad, Tensor x, Tensor weight, Tensor rstd, float offset, "
      "str casting_mode, bool need_x, bool need_weight) -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("rms_norm", WithoutAutograd);
  m.impl("rms_norm_forward", Forward);
  m.impl("rms_norm_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("rms_norm", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("rms_norm_forward", ForwardMeta);
  m.impl("rms_norm_backward", BackwardMeta);
}

}  // namespace

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps, double offset,
                   RmsNormCasting casting) {
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::rms_norm");
  return op.call(x, weight, eps, offset, RmsNormCastingName(casting));
}

}  // namespace liger::kernels
