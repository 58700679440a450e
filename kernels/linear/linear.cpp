#include "kernels/linear/linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <limits>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/record.h"
#include "kernels/gradient_place.h"
#include "kernels/kept_results.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "linear";

using OptionalTensor = std::optional<at::Tensor>;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

void Check(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias) {
  const Arg x_arg{kOp, "x", x}, weight_arg{kOp, "weight", weight};
  CheckFloating(x_arg);
  CheckAtLeastDim(x_arg, 1);
  CheckDim(weight_arg, 2);
  CheckShape(weight_arg, {weight.sym_size(0), x.sym_size(-1)}, "[N, K]");
  CheckSameDtype(weight_arg, x_arg);
  CheckSameDevice(weight_arg, x_arg);
  if (!bias.has_value()) return;
  const Arg bias_arg{kOp, "bias", *bias};
  CheckShape(bias_arg, {weight.sym_size(0)}, "[N]");
  CheckSameDtype(bias_arg, x_arg);
  CheckSameDevice(bias_arg, x_arg);
}

std::vector<c10::SymInt> OutputShape(const at::Tensor& x, const at::Tensor& weight) {
  std::vector<c10::SymInt> shape = x.sym_sizes().vec();
  shape.back() = weight.sym_size(0);
  return shape;
}

void CheckBackward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight) {
  Check(x, weight, std::nullopt);
  const Arg x_arg{kOp, "x", x}, grad_arg{kOp, "grad", grad};
  CheckShape(grad_arg, OutputShape(x, weight), "[..., N]");
  CheckSameDtype(grad_arg, x_arg);
  CheckSameDevice(grad_arg, x_arg);
}

at::Tensor Matrix(const at::Tensor& t) {
  return t.dim() == 1 ? t.unsqueeze(0) : t.flatten(0, -2);
}

void Record(const at::Tensor& x_TK, const at::Tensor& weight) {
  const bool ours = x_TK.is_cpu() && x_TK.scalar_type() == at::kFloat;
  if (ours && gemm::TakesSplit(x_TK, weight.t(), GemmKind::kForward)) {
    return RecordPath(Op::kLinear, Path::kAmxSplit);
  }
  RecordPath(Op::kLinear, ours ? Path::kCpu : Path::kAten);
}

at::Tensor Forward(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias) {
  Check(x, weight, bias);
  const at::Tensor x_TK = Matrix(x);
  Record(x_TK, weight);
  // In one product, so that a low-precision result is rounded once.
  if (bias.has_value() && x.scalar_type() != ComputeDtype(x)) return at::linear(x, weight, bias);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  at::Tensor y = gemm::XWt(x_TK, weight);
  if (bias.has_value()) y.add_(*bias);
  return y.view(shape);
}

at::Tensor ForwardMeta(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias) {
  Check(x, weight, bias);
  return at::empty_symint(OutputShape(x, weight), x.options());
}

Gradients Backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
                   bool need_x, bool need_weight, bool need_bias) {
  CheckBackward(grad, x, weight);
  const at::Tensor none = at::empty({0}, x.options());
  const at::Tensor g = Matrix(grad);
  return {need_x ? gemm::GW(g, weight).view(x.sizes()) : none,
          need_weight ? gemm::GtX(g, Matrix(x)) : none.clone(),
          need_bias ? g.sum(0) : none.clone()};
}

Gradients BackwardMeta(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
                       bool need_x, bool need_weight, bool need_bias) {
  CheckBackward(grad, x, weight);
  const auto make = [&](bool need, c10::SymIntArrayRef shape) {
    return need ? at::empty_symint(shape, x.options()) : at::empty({0}, x.options());
  };
  return {make(need_x, x.sym_sizes()), make(need_weight, weight.sym_sizes()),
          make(need_bias, weight.sym_sizes().slice(0, 1))};
}

void AccumulateWeightGrad(at::Tensor& grad_weight, const at::Tensor& grad, const at::Tensor& x) {
  const Arg x_arg{kOp, "x", x}, acc_arg{kOp, "grad_weight", grad_weight};
  const Arg grad_arg{kOp, "grad", grad};
  CheckAtLeastDim(x_arg, 1);
  CheckDim(acc_arg, 2);
  CheckShape(acc_arg, {grad_weight.sym_size(0), x.sym_size(-1)}, "[N, K]");
  CheckSameDtypeOrFloat(acc_arg, x_arg);
  CheckSameDevice(acc_arg, x_arg);
  CheckShape(grad_arg, OutputShape(x, grad_weight), "[..., N]");
  CheckSameDtype(grad_arg, x_arg);
  CheckSameDevice(grad_arg, x_arg);
  gemm::AddGtX(Matrix(grad), Matrix(x), grad_weight);
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& weight, const OptionalTensor& bias,
                            bool with_product) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, weight});
    ctx->saved_data["has_bias"] = bias.has_value();
    if (with_product) {
      return KeptResults::Of(kOp, [&] { return std::vector{Linear(x, weight, bias)}; })[0];
    }
    Check(x, weight, bias);
    return at::full({}, std::numeric_limits<double>::quiet_NaN(), x.options())
        .expand_symint(OutputShape(x, weight));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::linear_backward");
    const auto saved = ctx->get_saved_variables();
    const bool need_x = ctx->needs_input_grad(0), need_weight = ctx->needs_input_grad(1);
    const bool need_bias = ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(2);
    const at::Tensor place = need_weight ? GradientPlace::Of(saved[1]) : at::Tensor();
    const bool makes_weight = need_weight && !place.defined();
    auto [dx, dweight, dbias] =
        op.call(grads[0], saved[0], saved[1], need_x, makes_weight, need_bias);
    if (place.defined()) {
      dweight = place;
      gemm::AddGtX(Matrix(grads[0]), Matrix(saved[0]), dweight, /*alpha=*/1, /*overwrite=*/true);
    }
    return {need_x ? dx : at::Tensor(), need_weight ? dweight : at::Tensor(),
            need_bias ? dbias : at::Tensor(), at::Tensor()};
  }
};

at::Tensor WithAutograd(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias) {
  return Function::apply(x, weight, bias, /*with_product=*/true);
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def("linear(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.def(
      "linear_backward(Tensor grad, Tensor x, Tensor weight, bool need_x, bool need_weight, "
      "bool need_bias) -> (Tensor, Tensor, Tensor)");
  m.def("linear_accumulate_weight_grad_(Tensor(a!) grad_weight, Tensor grad, Tensor x) -> ()");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("linear", Forward);
  m.impl("linear_backward", Backward);
  m.impl("linear_accumulate_weight_grad_", AccumulateWeightGrad);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("linear", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("linear", ForwardMeta);
  m.impl("linear_backward", BackwardMeta);
  m.impl("linear_accumulate_weight_grad_",
         [](at::Tensor&, const at::Tensor&, const at::Tensor&) {});
}

}  // namespace

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias) {
  static const auto op = FindOp<decltype(Forward)>("liger::linear");
  return op.call(x, weight, bias);
}

at::Tensor LinearForGradients(const at::Tensor& x, const at::Tensor& weight,
                              const OptionalTensor& bias) {
  return Function::apply(x, weight, bias, /*with_product=*/false);
}

}  // namespace liger::kernels
