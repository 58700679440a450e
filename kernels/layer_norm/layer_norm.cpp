#include "kernels/layer_norm/layer_norm.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/path_of.h"
#include "kernels/layer_norm/layer_norm_impl.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "layer_norm";
using OptionalTensor = std::optional<at::Tensor>;

void CheckWeight(const at::Tensor& x, const at::Tensor& weight) {
  const Arg x_arg{kOp, "x", x}, weight_arg{kOp, "weight", weight};
  CheckFloating(x_arg);
  CheckAtLeastDim(x_arg, 1);
  CheckNotEmpty(x_arg, -1);
  CheckShape(weight_arg, {x.sym_size(-1)}, "[H]");
  CheckSameDtypeOrFloat(weight_arg, x_arg);
  CheckSameDevice(weight_arg, x_arg);
}

void CheckForward(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                  double eps) {
  CheckWeight(x, weight);
  if (bias) {
    const Arg bias_arg{kOp, "bias", *bias};
    CheckShape(bias_arg, {x.sym_size(-1)}, "[H]");
    CheckSameDtype(bias_arg, {kOp, "weight", weight});
    CheckSameDevice(bias_arg, {kOp, "x", x});
  }
  TORCH_CHECK_VALUE(std::isfinite(eps) && eps > 0, kOp, ": eps is ", eps,
                    ", expected a positive number");
}

void CheckBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                   const at::Tensor& mean, const at::Tensor& rstd) {
  CheckWeight(x, weight);
  const Arg x_arg{kOp, "x", x}, dy_arg{kOp, "grad", dy};
  CheckShape(dy_arg, x.sym_sizes(), "x's shape");
  CheckSameDtype(dy_arg, x_arg);
  CheckSameDevice(dy_arg, x_arg);
  for (const Arg& stat : {Arg{kOp, "mean", mean}, Arg{kOp, "rstd", rstd}}) {
    CheckShape(stat, x.sym_sizes().slice(0, x.dim() - 1), "x's shape without H");
    CheckDtype(stat, ComputeDtype(x));
    CheckSameDevice(stat, x_arg);
  }
}

LayerNormForwardResult Forward(const at::Tensor& x, const at::Tensor& weight,
                               const OptionalTensor& bias, double eps) {
  CheckForward(x, weight, bias, eps);
  RecordPath(Op::kLayerNorm, PathOf(x));
  return LayerNormForward(x, weight, bias, eps);
}

LayerNormForwardResult ForwardMeta(const at::Tensor& x, const at::Tensor& weight,
                                   const OptionalTensor& bias, double eps) {
  CheckForward(x, weight, bias, eps);
  const auto rows = x.sym_sizes().slice(0, x.dim() - 1);
  const auto stats = x.options().dtype(ComputeDtype(x));
  return {at::empty_symint(x.sym_sizes(), x.options()), at::empty_symint(rows, stats),
          at::empty_symint(rows, stats)};
}

LayerNormBackwardResult Backward(const at::Tensor& dy, const at::Tensor& x,
                                 const at::Tensor& weight, const at::Tensor& mean,
                                 const at::Tensor& rstd, bool need_dx, bool need_dweight,
                                 bool need_dbias) {
  CheckBackward(dy, x, weight, mean, rstd);
  return LayerNormBackward(dy, x, weight, mean, rstd, {need_dx, need_dweight, need_dbias});
}

LayerNormBackwardResult BackwardMeta(const at::Tensor& dy, const at::Tensor& x,
                                     const at::Tensor& weight, const at::Tensor& mean,
                                     const at::Tensor& rstd, bool need_dx, bool need_dweight,
                                     bool need_dbias) {
  CheckBackward(dy, x, weight, mean, rstd);
  const auto like = [](const at::Tensor& t, bool need) {
    return need ? at::empty_symint(t.sym_sizes(), t.options()) : at::empty({0}, t.options());
  };
  return {like(x, need_dx), like(weight, need_dweight), like(weight, need_dbias)};
}

LayerNormForwardResult CallForward(const at::Tensor& x, const at::Tensor& weight,
                                   const OptionalTensor& bias, double eps) {
  static const auto op = FindOp<decltype(Forward)>("liger::layer_norm_forward");
  return op.call(x, weight, bias, eps);
}

at::Tensor WithoutAutograd(const at::Tensor& x, const at::Tensor& weight,
                           const OptionalTensor& bias, double eps) {
  return std::get<0>(CallForward(x, weight, bias, eps));
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& weight, const OptionalTensor& bias, double eps) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [y, mean, rstd] = CallForward(x, weight, bias, eps);
    ctx->save_for_backward({x, weight, mean, rstd});
    ctx->saved_data["has_bias"] = bias.has_value();
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::layer_norm_backward");
    const auto saved = ctx->get_saved_variables();
    const bool need_x = ctx->needs_input_grad(0), need_weight = ctx->needs_input_grad(1);
    const bool need_bias = ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(2);
    auto [dx, dweight, dbias] =
        op.call(grads[0], saved[0], saved[1], saved[2], saved[3], need_x, need_weight, need_bias);
    return {need_x ? dx : at::Tensor(),
            need_weight ? dweight : at::Tensor(),
            need_bias ? dbias : at::Tensor(),
            {}};
  }
};

at::Tensor WithAutograd(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                        double eps) {
  return Function::apply(x, weight, bias, eps);
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def("layer_norm(Tensor x, Tensor weight, Tensor? bias=None, float eps=1e-5) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.def(
      "layer_norm_forward(Tensor x, Tensor weight, Tensor? bias, float eps) "
      "-> (Tensor y, Tensor mean, Tensor rstd)");
  m.def(
      "layer_norm_backward(Tensor grad, Tensor x, Tensor weight, Tensor mean, Tensor rstd, "
      "bool need_x, bool need_weight, bool need_bias) -> (Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("layer_norm", WithoutAutograd);
  m.impl("layer_norm_forward", Forward);
  m.impl("layer_norm_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("layer_norm", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("layer_norm_forward", ForwardMeta);
  m.impl("layer_norm_backward", BackwardMeta);
}

}  // namespace

at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
                     double eps) {
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::layer_norm");
  return op.call(x, weight, bias, eps);
}

}  // namespace liger::kernels
