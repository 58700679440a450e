#include "kernels/dyt/dyt.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/path_of.h"
#include "kernels/dyt/dyt_impl.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "dyt";
using OptionalTensor = std::optional<at::Tensor>;

void CheckWeights(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma) {
  const Arg x_arg{kOp, "x", x}, alpha_arg{kOp, "alpha", alpha}, gamma_arg{kOp, "gamma", gamma};
  CheckFloating(x_arg);
  CheckAtLeastDim(x_arg, 1);
  CheckNotEmpty(x_arg, -1);
  CheckShape(gamma_arg, {x.sym_size(-1)}, "[H]");
  CheckSameDtypeOrFloat(gamma_arg, x_arg);
  CheckSameDevice(gamma_arg, x_arg);
  CheckShape(alpha_arg, {c10::SymInt(1)}, "one number");
  CheckSameDtype(alpha_arg, gamma_arg);
  CheckSameDevice(alpha_arg, x_arg);
}

void CheckForward(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
                  const OptionalTensor& beta) {
  CheckWeights(x, alpha, gamma);
  if (!beta) return;
  const Arg beta_arg{kOp, "beta", *beta};
  CheckShape(beta_arg, {x.sym_size(-1)}, "[H]");
  CheckSameDtype(beta_arg, {kOp, "gamma", gamma});
  CheckSameDevice(beta_arg, {kOp, "x", x});
}

void CheckBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& alpha,
                   const at::Tensor& gamma) {
  CheckWeights(x, alpha, gamma);
  const Arg x_arg{kOp, "x", x}, dy_arg{kOp, "grad", dy};
  CheckShape(dy_arg, x.sym_sizes(), "x's shape");
  CheckSameDtype(dy_arg, x_arg);
  CheckSameDevice(dy_arg, x_arg);
}

at::Tensor Forward(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
                   const OptionalTensor& beta) {
  CheckForward(x, alpha, gamma, beta);
  RecordPath(Op::kDyt, PathOf(x));
  return DytForward(x, alpha, gamma, beta);
}

at::Tensor ForwardMeta(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
                       const OptionalTensor& beta) {
  CheckForward(x, alpha, gamma, beta);
  return at::empty_symint(x.sym_sizes(), x.options());
}

DytGradients Backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& alpha,
                      const at::Tensor& gamma, bool need_x, bool need_alpha, bool need_gamma,
                      bool need_beta) {
  CheckBackward(dy, x, alpha, gamma);
  return DytBackward(dy, x, alpha, gamma, {need_x, need_alpha, need_gamma, need_beta});
}

DytGradients BackwardMeta(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& alpha,
                          const at::Tensor& gamma, bool need_x, bool need_alpha, bool need_gamma,
                          bool need_beta) {
  CheckBackward(dy, x, alpha, gamma);
  const auto like = [](const at::Tensor& t, bool need) {
    return need ? at::empty_symint(t.sym_sizes(), t.options()) : at::empty({0}, t.options());
  };
  return {like(x, need_x), like(alpha, need_alpha), like(gamma, need_gamma),
          like(gamma, need_beta)};
}

at::Tensor WithoutAutograd(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
                           const OptionalTensor& beta) {
  static const auto op = FindOp<decltype(Forward)>("liger::dyt_forward");
  return op.call(x, alpha, gamma, beta);
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& alpha, const at::Tensor& gamma,
                            const OptionalTensor& beta) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x, alpha, gamma});
    ctx->saved_data["has_beta"] = beta.has_value();
    return WithoutAutograd(x, alpha, gamma, beta);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    static const auto op = FindOp<decltype(Backward)>("liger::dyt_backward");
    const auto saved = ctx->get_saved_variables();
    const bool need_x = ctx->needs_input_grad(0), need_alpha = ctx->needs_input_grad(1);
    const bool need_gamma = ctx->needs_input_grad(2);
    const bool need_beta = ctx->saved_data["has_beta"].toBool() && ctx->needs_input_grad(3);
    auto [dx, dalpha, dgamma, dbeta] =
        op.call(grads[0], saved[0], saved[1], saved[2], need_x, need_alpha, need_gamma, need_beta);
    return {need_x ? dx : at::Tensor(), need_alpha ? dalpha : at::Tensor(),
            need_gamma ? dgamma : at::Tensor(), need_beta ? dbeta : at::Tensor()};
  }
};

at::Tensor WithAutograd(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
                        const OptionalTensor& beta) {
  return Function::apply(x, alpha, gamma, beta);
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def("dyt(Tensor x, Tensor alpha, Tensor gamma, Tensor? beta=None) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.def("dyt_forward(Tensor x, Tensor alpha, Tensor gamma, Tensor? beta) -> Tensor");
  m.def(
      "dyt_backward(Tensor grad, Tensor x, Tensor alpha, Tensor gamma, bool need_x, "
      "bool need_alpha, bool need_gamma, bool need_beta) -> (Tensor, Tensor, Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("dyt", WithoutAutograd);
  m.impl("dyt_forward", Forward);
  m.impl("dyt_backward", Backward);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("dyt", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("dyt_forward", ForwardMeta);
  m.impl("dyt_backward", BackwardMeta);
}

}  // namespace

at::Tensor Dyt(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
               const OptionalTensor& beta) {
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::dyt");
  return op.call(x, alpha, gamma, beta);
}

}  // namespace liger::kernels
