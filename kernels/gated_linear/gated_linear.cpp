#include "kernels/gated_linear/gated_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>

#include "kernels/common/autograd.h"
#include "kernels/common/check.h"
#include "kernels/common/gated.h"
#include "kernels/geglu/geglu.h"
#include "kernels/gradient_place.h"
#include "kernels/linear/linear.h"
#include "kernels/swiglu/swiglu.h"

namespace liger::kernels {
namespace {

constexpr char kOp[] = "gated_linear";

using OptionalTensor = std::optional<at::Tensor>;

at::Tensor Gate(Activation activation, const at::Tensor& gate, const at::Tensor& up) {
  if (activation == Activation::kSilu) return Swiglu(gate, up);
  return Geglu(gate, up,
               activation == Activation::kGeluTanh ? GeluApproximate::kTanh
                                                   : GeluApproximate::kNone);
}

void Check(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& weight) {
  CheckGated(kOp, gate, up);
  const Arg gate_arg{kOp, "gate", gate}, weight_arg{kOp, "weight", weight};
  CheckDim(gate_arg, 2);
  CheckDim(weight_arg, 2);
  CheckShape(weight_arg, {weight.sym_size(0), gate.sym_size(1)}, "[D, F]");
  CheckSameDtype(weight_arg, gate_arg);
  CheckSameDevice(weight_arg, gate_arg);
}

at::Tensor WeightGradient(const at::Tensor& grad, const at::Tensor& inner,
                          const at::Tensor& weight) {
  at::Tensor place = GradientPlace::Of(weight);
  if (!place.defined()) return gemm::GtX(grad, inner);
  gemm::AddGtX(grad, inner, place, /*alpha=*/1, /*overwrite=*/true);
  return place;
}

class Function : public torch::autograd::Function<Function> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& gate,
                            const at::Tensor& up, const at::Tensor& weight,
                            const OptionalTensor& bias, int64_t activation, bool with_product) {
    at::AutoDispatchBelowADInplaceOrView guard;
    Check(gate, up, weight);
    ctx->save_for_backward({gate, up, weight});
    ctx->saved_data["activation"] = activation;
    ctx->saved_data["has_bias"] = bias.has_value();
    if (with_product) {
      return Linear(Gate(static_cast<Activation>(activation), gate, up), weight, bias);
    }
    return at::full({}, std::numeric_limits<double>::quiet_NaN(), gate.options())
        .expand_symint({gate.sym_size(0), weight.sym_size(0)});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    CheckFirstDerivative(kOp);
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &gate = saved[0], &up = saved[1], &weight = saved[2];
    const auto activation = static_cast<Activation>(ctx->saved_data["activation"].toInt());
    const at::Tensor grad = grads[0].contiguous();
    const bool need_inner = ctx->needs_input_grad(0) || ctx->needs_input_grad(1);
    const bool need_weight = ctx->needs_input_grad(2);
    const bool need_bias = ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(3);
    at::Tensor dgate, dup, inner;
    if (need_inner) {
      inner = gemm::GW(grad, weight);  // the gradient of what it is written over with
      std::tie(dgate, dup) = GatedBackward(kOp, activation, inner, gate, up,
                                           need_weight ? &inner : nullptr);
    } else if (need_weight) {
      inner = GatedForward(kOp, activation, gate, up);
    }
    return {dgate,
            dup,
            need_weight ? WeightGradient(grad, inner, weight) : at::Tensor(),
            need_bias ? grad.sum(0) : at::Tensor(),
            at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor GatedLinear(Activation activation, const at::Tensor& gate_TF, const at::Tensor& up_TF,
                       const at::Tensor& weight_DF, const OptionalTensor& bias_D) {
  return Function::apply(gate_TF, up_TF, weight_DF, bias_D, static_cast<int64_t>(activation),
                         /*with_product=*/true);
}

at::Tensor GatedLinearForGradients(Activation activation, const at::Tensor& gate_TF,
                                   const at::Tensor& up_TF, const at::Tensor& weight_DF,
                                   const OptionalTensor& bias_D) {
  return Function::apply(gate_TF, up_TF, weight_DF, bias_D, static_cast<int64_t>(activation),
                         /*with_product=*/false);
}

}  // namespace liger::kernels
