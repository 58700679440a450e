#include "kernels/rms_norm/rms_norm.h"

#include <torch/library.h>
#include <torch/torch.h>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/path_of.h"
#include "kernels/rms_norm/rms_norm_impl.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "rms_norm";

RmsNormCasting ParseCasting(c10::string_view mode) {
  if (mode == "llama") return RmsNormCasting::kLlama;
  TORCH_CHECK_VALUE(mode == "gemma", kOp, ": casting_mode is '", mode,
                    "', expected 'llama' or 'gemma'");
  return RmsNormCasting::kGemma;
}

const char* CastingName(RmsNormCasting casting) {
  return casting == RmsNormCasting::kLlama ? "llama" : "gemma";
}

void Check(const at::Tensor& x, const at::Tensor& weight) {
  const Arg x_arg{kOp, "x", x}, weight_arg{kOp, "weight", weight};
  CheckFloating(x_arg);
  CheckAtLeastDim(x_arg, 1);
  CheckShape(weight_arg, {x.sym_size(-1)}, "[H]");
  CheckSameDtypeOrFloat(weight_arg, x_arg);
  CheckSameDevice(weight_arg, x_arg);
}

void CheckForward(const at::Tensor& x, const at::Tensor& weight, double eps) {
  Check(x, weight);
  TORCH_CHECK_VALUE(eps > 0, kOp, ": eps is ", eps, ", expected a positive number");
}

void CheckBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                   const at::Tensor& rstd) {
  Check(x, weight);
  const Arg x_arg{kOp, "x", x}, dy_arg{kOp, "grad", dy}, rstd_arg{kOp, "rstd", rstd};
  CheckShape(dy_arg, x.sym_sizes(), "x's shape");
  CheckSameDtype(dy_arg, x_arg);
  CheckSameDevice(dy_arg, x_arg);
  CheckShape(rstd_arg, x.sym_sizes().slice(0, x.dim() - 1), "x's shape without H");
  CheckDtype(rstd_arg, ComputeDtype(x));
  CheckSameDevice(rstd_arg, x_arg);
}

RmsNormForwardResult Forward(const at::Tensor& x, const at::Tensor& weight, double eps,
                             double offset, c10::string_view casting_mode) {
  CheckForward(x, weight, eps);
  const RmsNormCasting casting = ParseCasting(casting_mode);
  RecordPath(Op::kRmsNorm, PathOf(x));
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) return RmsNormForwardCuda(x, weight, eps, offset, casting);
  }
  return HasCpuLoops(x) ? RmsNormForwardCpu(x, weight, eps, offset, casting)
                        : RmsNormForwardAten(x, weight, eps, offset, casting);
}

RmsNormForwardResult ForwardMeta(const at::Tensor& x, const at::Tensor& weight, double eps, double,
                                 c10::string_view casting_mode) {
  CheckForward(x, weight, eps);
  ParseCasting(casting_mode);
  return {
      at::empty_symint(x.sym_sizes(), x.options()),
      at::empty_symint(x.sym_sizes().slice(0, x.dim() - 1), x.options().dtype(ComputeDtype(x)))};
}

RmsNormBackwardResult Backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& rstd, double offset, c10::string_view casting_mode,
                               bool need_dx, bool need_dweight) {
  CheckBackward(dy, x, weight, rstd);
  const RmsNormCasting casting = ParseCasting(casting_mode);
  if constexpr (kHasCuda) {
    if (HasCudaKernels(x)) {
      return RmsNormBackwardCuda(dy, x, weight, rstd, offset, casting, need_dx, need_dweight);
    }
  }
  const auto run = HasCpuLoops(x) ? RmsNormBackwardCpu : RmsNormBackwardAten;
  return run(dy, x, weight, rstd, offset, casting, need_dx, need_dweight);
}

RmsNormBackwardResult BackwardMeta(const at::Tensor& dy, const at::Tensor& x,
                                   const at::Tensor& weight, const at::Tensor& rstd, double,
                                   c10::string_view, bool need_dx, bool need_dweight) {
  CheckBackward(dy, x, weight, rstd);
  return {need_dx ? at::empty_symint(x.sym_sizes(), x.options()) : at::empty({0}, x.options()),
          need_dweight ? at::empty_symint(weight.sym_sizes(), weight.options())
                       : at::empty({0}, weight.options())};
}

RmsNormForwardResult CallForward(const at::Tensor& x, const at::Tensor& weight, double eps,
                                 double offset, c10::string_view casting_mode) {
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
  return op.call(x, weight, eps, offset, CastingName(casting));
}

}  // namespace liger::kernels
