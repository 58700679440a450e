#include "kernels/fused_add_rms_norm/fused_add_rms_norm.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/path_of.h"
#include "kernels/rms_norm/rms_norm_impl.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "fused_add_rms_norm";

using ForwardResult = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // y, sum, rstd

void CheckLikeX(const char* name, const at::Tensor& t, const at::Tensor& x) {
  const Arg arg{kOp, name, t}, x_arg{kOp, "x", x};
  CheckShape(arg, x.sym_sizes(), "x's shape");
  CheckSameDtype(arg, x_arg);
  CheckSameDevice(arg, x_arg);
}

ForwardResult Forward(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                      double eps, double offset, c10::string_view casting_mode) {
  CheckRmsNormForward(kOp, x, weight, eps);
  CheckLikeX("residual", residual, x);
  const RmsNormCasting casting = ParseRmsNormCasting(kOp, casting_mode);
  RecordPath(Op::kFusedAddRmsNorm, PathOf(x));
  RmsNormOutput out = RmsNormForward(kOp, x, residual, weight, eps, offset, casting);
  return {out.y, out.sum, out.rstd};
}

ForwardResult ForwardMeta(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                          double eps, double, c10::string_view casting_mode) {
  CheckRmsNormForward(kOp, x, weight, eps);
  CheckLikeX("residual", residual, x);
  ParseRmsNormCasting(kOp, casting_mode);
  return {at::empty_symint(x.sym_sizes(), x.options()),
          at::empty_symint(x.sym_sizes(), x.options()), RmsNormRstdMeta(x)};
}

void CheckBackward(const at::Tensor& dy, const at::Tensor& dsum, const at::Tensor& sum,
                   const at::Tensor& weight, const at::Tensor& rstd) {
  CheckRmsNormBackward(kOp, "sum", dy, sum, weight, rstd);
  CheckLikeX("grad_sum", dsum, sum);
}

RmsNormBackwardResult Backward(const at::Tensor& dy, const at::Tensor& dsum, const at::Tensor& sum,
                               const at::Tensor& weight, const at::Tensor& rstd, double offset,
                               c10::string_view casting_mode, bool need_dx, bool need_dweight) {
  CheckBackward(dy, dsum, sum, weight, rstd);
  return RmsNormBackward(kOp, dy, dsum, sum, weight, rstd, offset,
                         ParseRmsNormCasting(kOp, casting_mode), need_dx, need_dweight);
}

RmsNormBackwardResult BackwardMeta(const at::Tensor& dy, const at::Tensor& dsum,
                                   const at::Tensor& sum, const at::Tensor& weight,
                                   const at::Tensor& rstd, double, c10::string_view, bool need_dx,
                                   bool need_dweight) {
  CheckBackward(dy, dsum, sum, weight, rstd);
  return RmsNormBackwardMeta(sum, weight, need_dx, need_dweight);
}

ForwardResult CallForward(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                          double eps, double offset, c10::string_view casting_mode) {
  static const auto op = FindOp<decltype(Forward)>("liger::fused_add_rms_norm_forward");
  return op.call(x, residual, weight, eps, offset, casting_mode);
}

std::tuple<at::Tensor, at::Tensor> WithoutAutograd(const at::Tensor& x, const at::Tensor& residual,
                                                   const at::Tensor& weight, double eps,
                                                   double offset, c10::string_view casting_mode) {
  auto [y, sum, rstd] = CallForward(x, residual, weight, eps, offset, casting_mode);
  return {y, sum};
}

class Function : public torch::autograd::Function<Function> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* ctx,
                                                const at::Tensor& x, const at::Tensor& residual,
                                                const at::Tensor& weight, double eps, double offset,
                                                std::string casting_mode) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [y, sum, rstd] = CallForward(x, residual, weight, eps, offset, casting_mode);
    ctx->save_for_backward({sum, weight, rstd});
    ctx->saved_data["offset"] = offset;
    ctx->saved_data["casting_mode"] = std::move(casting_mode);
    return {y, sum};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::fused_add_rms_norm_backward");
    const auto saved = ctx->get_saved_variables();
    const bool need_x = ctx->needs_input_grad(0) || ctx->needs_input_grad(1);
    auto [dx, dweight] = op.call(
        grads[0], grads[1], saved[0], saved[1], saved[2], ctx->saved_data["offset"].toDouble(),
        ctx->saved_data["casting_mode"].toStringRef(), need_x, ctx->needs_input_grad(2));
    return {ctx->needs_input_grad(0) ? dx : at::Tensor(),
            ctx->needs_input_grad(1) ? dx : at::Tensor(),
            ctx->needs_input_grad(2) ? dweight : at::Tensor(),
            {},
            {},
            {}};
  }
};

std::tuple<at::Tensor, at::Tensor> WithAutograd(const at::Tensor& x, const at::Tensor& residual,
                                                const at::Tensor& weight, double eps, double offset,
                                                c10::string_view casting_mode) {
  const auto out = Function::apply(x, residual, weight, eps, offset, std::string(casting_mode));
  return {out[0], out[1]};
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "fused_add_rms_norm(Tensor x, Tensor residual, Tensor weight, float eps=1e-6, "
      "float offset=0.0, str casting_mode='llama') -> (Tensor y, Tensor sum)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "fused_add_rms_norm_forward(Tensor x, Tensor residual, Tensor weight, float eps, "
      "float offset, str casting_mode) -> (Tensor y, Tensor sum, Tensor rstd)");
  m.def(
      "fused_add_rms_norm_backward(Tensor grad, Tensor grad_sum, Tensor sum, Tensor weight, "
      "Tensor rstd, float offset, str casting_mode, bool need_x, bool need_weight) "
      "-> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("fused_add_rms_norm", WithoutAutograd);
  m.impl("fused_add_rms_norm_forward", Forward);
  m.impl("fused_add_rms_norm_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("fused_add_rms_norm", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("fused_add_rms_norm_forward", ForwardMeta);
  m.impl("fused_add_rms_norm_backward", BackwardMeta);
}

}  // namespace

std::pair<at::Tensor, at::Tensor> FusedAddRmsNorm(const at::Tensor& x, const at::Tensor& residual,
                                                  const at::Tensor& weight, double eps,
                                                  double offset, RmsNormCasting casting) {
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::fused_add_rms_norm");
  auto [y, sum] = op.call(x, residual, weight, eps, offset, RmsNormCastingName(casting));
  return {y, sum};
}

}  // namespace liger::kernels
