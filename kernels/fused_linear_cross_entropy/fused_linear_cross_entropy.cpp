#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/head_buffers.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy_impl.h"

namespace liger::kernels {
namespace {

using flce::OptionalTensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "fused_linear_cross_entropy";

using Public = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // loss, entropy, is_top1

using flce::LossOptions;

LossOptions OptionsFrom(const FusedLinearCrossEntropyOptions& o) {
  return {o.scale,           o.ignore_index,    o.token_stats,
          o.token_weight_T,  o.valid_rows_M,    {o.softcap, o.temperature},
          o.label_smoothing, o.lse_square_scale};
}

// The ops' flat arguments.
template <auto kForward>
flce::ForwardResult FlatForward(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& target, const OptionalTensor& bias, double scale,
                                int64_t ignore_index, bool token_stats,
                                const OptionalTensor& token_weight,
                                const OptionalTensor& valid_rows, double softcap,
                                double temperature, double label_smoothing, double lse_square_scale,
                                bool need_hidden, bool need_weight, bool need_bias) {
  return kForward(hidden, weight, target, bias,
                  {scale,
                   ignore_index,
                   token_stats,
                   token_weight,
                   valid_rows,
                   {softcap, temperature},
                   label_smoothing,
                   lse_square_scale},
                  need_hidden, need_weight, need_bias);
}

template <auto kAccumulate>
flce::AccumulateResult FlatAccumulate(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
    const OptionalTensor& bias, const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
    double scale, int64_t ignore_index, bool token_stats, const OptionalTensor& token_weight,
    const OptionalTensor& valid_rows, double softcap, double temperature, double label_smoothing,
    double lse_square_scale, bool need_hidden, bool grad_weight_is_new) {
  return kAccumulate(hidden, weight, target, bias, grad_weight, grad_bias,
                     {scale,
                      ignore_index,
                      token_stats,
                      token_weight,
                      valid_rows,
                      {softcap, temperature},
                      label_smoothing,
                      lse_square_scale},
                     need_hidden, grad_weight_is_new);
}

flce::ForwardResult CallForward(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& target, const OptionalTensor& bias,
                                const LossOptions& o, bool need_hidden, bool need_weight,
                                bool need_bias) {
  static const auto op =
      FindOp<decltype(FlatForward<flce::Forward>)>("liger::fused_linear_cross_entropy_forward");
  return op.call(hidden, weight, target, bias, o.scale, o.ignore_index, o.token_stats,
                 o.token_weight_T, o.valid_rows_M, o.map.softcap, o.map.temperature,
                 o.label_smoothing, o.lse_square_scale, need_hidden, need_weight, need_bias);
}

flce::AccumulateResult CallAccumulate(const at::Tensor& hidden, const at::Tensor& weight,
                                      const at::Tensor& target, const OptionalTensor& bias,
                                      const OptionalTensor& grad_weight,
                                      const OptionalTensor& grad_bias, const LossOptions& o,
                                      bool need_hidden, bool grad_weight_is_new) {
  static const auto op = FindOp<decltype(FlatAccumulate<flce::Accumulate>)>(
      "liger::fused_linear_cross_entropy_accumulate_");
  return op.call(hidden, weight, target, bias, grad_weight, grad_bias, o.scale, o.ignore_index,
                 o.token_stats, o.token_weight_T, o.valid_rows_M, o.map.softcap, o.map.temperature,
                 o.label_smoothing, o.lse_square_scale, need_hidden, grad_weight_is_new);
}

Public WithoutAutograd(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                       const OptionalTensor& bias, double scale, int64_t ignore_index,
                       bool token_stats, const OptionalTensor& token_weight,
                       const OptionalTensor& valid_rows, double softcap, double temperature,
                       double label_smoothing, double lse_square_scale) {
  const auto out = CallForward(hidden, weight, target, bias,
                               {scale,
                                ignore_index,
                                token_stats,
                                token_weight,
                                valid_rows,
                                {softcap, temperature},
                                label_smoothing,
                                lse_square_scale},
                               false, false, false);
  return {std::get<0>(out), std::get<1>(out), std::get<2>(out)};
}

// The head's gradients are kept in float32 until here: rounded once.
at::Tensor Scaled(const at::Tensor& gradient, const at::Tensor& upstream, bool needed,
                  at::ScalarType dtype) {
  if (!needed) return {};
  return (gradient * upstream.to(gradient.scalar_type())).to(dtype);
}

class Function : public torch::autograd::Function<Function> {
 public:
  // Gradients are off in here, so the caller says which are needed.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden,
                               const at::Tensor& weight, const at::Tensor& target,
                               const OptionalTensor& bias, const LossOptions& options,
                               bool need_hidden, bool need_weight, bool need_bias) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, entropy, is_top1, grad_hidden, grad_weight, grad_bias] =
        CallForward(hidden, weight, target, bias, options, need_hidden, need_weight, need_bias);
    ctx->save_for_backward({grad_hidden, grad_weight, grad_bias});
    ctx->saved_data["dtype"] = static_cast<int64_t>(hidden.scalar_type());
    ctx->saved_data["need_hidden"] = need_hidden;
    ctx->saved_data["need_weight"] = need_weight;
    ctx->saved_data["need_bias"] = need_bias;
    ctx->mark_non_differentiable({entropy, is_top1});
    return {loss, entropy, is_top1};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CheckFirstDerivative(kOp);
    const auto saved = ctx->get_saved_variables();
    const auto needed = [&](const char* name) { return ctx->saved_data[name].toBool(); };
    const auto dtype = static_cast<at::ScalarType>(ctx->saved_data["dtype"].toInt());
    variable_list out(8);
    out[0] = Scaled(saved[0], grads[0], needed("need_hidden"), dtype);
    out[1] = Scaled(saved[1], grads[0], needed("need_weight"), dtype);
    out[3] = Scaled(saved[2], grads[0], needed("need_bias"), dtype);
    return out;
  }
};

Public WithAutograd(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                    const OptionalTensor& bias, double scale, int64_t ignore_index,
                    bool token_stats, const OptionalTensor& token_weight,
                    const OptionalTensor& valid_rows, double softcap, double temperature,
                    double label_smoothing, double lse_square_scale) {
  const LossOptions options = {scale,           ignore_index,    token_stats,
                               token_weight,    valid_rows,      {softcap, temperature},
                               label_smoothing, lse_square_scale};
  const auto out = Function::apply(hidden, weight, target, bias, options, NeedsGrad(hidden),
                                   NeedsGrad(weight), NeedsGrad(bias));
  return {out[0], out[1], out[2]};
}

// Head gradients go to buffers during forward; the loss stays in the graph through hidden
// and weight, so that a frozen body does not cut it off.
class AccumulateFunction : public torch::autograd::Function<AccumulateFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden,
                               const at::Tensor& weight, const at::Tensor& target,
                               const OptionalTensor& bias, const OptionalTensor& grad_weight,
                               const OptionalTensor& grad_bias, const LossOptions& options,
                               bool need_hidden, bool grad_weight_is_new) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, entropy, is_top1, grad_hidden] =
        CallAccumulate(hidden, weight, target, bias, grad_weight, grad_bias, options, need_hidden,
                       grad_weight_is_new);
    ctx->save_for_backward({grad_hidden});
    ctx->saved_data["need_hidden"] = need_hidden;
    ctx->mark_non_differentiable({entropy, is_top1});
    return {loss, entropy, is_top1};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CheckFirstDerivative(kOp);
    TORCH_CHECK(!grads[0].is_cpu() || grads[0].item<double>() == 1.0, kOp,
                ": the upstream gradient of the loss is ", grads[0].item<double>(),
                ", but grad_weight already holds the head's gradient for 1; "
                "put the factor into scale");
    variable_list out(9);
    if (ctx->saved_data["need_hidden"].toBool()) out[0] = ctx->get_saved_variables()[0];
    return out;
  }
};

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "fused_linear_cross_entropy(Tensor hidden, Tensor weight, Tensor target, "
      "Tensor? bias=None, float scale=1.0, int ignore_index=-100, bool token_stats=False, "
      "Tensor? token_weight=None, Tensor? valid_rows=None, float softcap=0.0, "
      "float temperature=1.0, float label_smoothing=0.0, float lse_square_scale=0.0) "
      "-> (Tensor loss, Tensor entropy, Tensor is_top1)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "fused_linear_cross_entropy_forward(Tensor hidden, Tensor weight, Tensor target, "
      "Tensor? bias, float scale, int ignore_index, bool token_stats, Tensor? token_weight, "
      "Tensor? valid_rows, float softcap, float temperature, float label_smoothing, "
      "float lse_square_scale, bool need_hidden, bool need_weight, bool need_bias) "
      "-> (Tensor loss, Tensor entropy, Tensor is_top1, Tensor grad_hidden, Tensor grad_weight, "
      "Tensor grad_bias)");
  m.def(
      "fused_linear_cross_entropy_accumulate_(Tensor hidden, Tensor weight, Tensor target, "
      "Tensor? bias, Tensor(a!)? grad_weight, Tensor(b!)? grad_bias, float scale, "
      "int ignore_index, bool token_stats, Tensor? token_weight, Tensor? valid_rows, "
      "float softcap, float temperature, float label_smoothing, float lse_square_scale, "
      "bool need_hidden, bool grad_weight_is_new=False) "
      "-> (Tensor loss, Tensor entropy, Tensor is_top1, Tensor grad_hidden)");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("fused_linear_cross_entropy", WithoutAutograd);
  m.impl("fused_linear_cross_entropy_forward", FlatForward<flce::Forward>);
  m.impl("fused_linear_cross_entropy_accumulate_", FlatAccumulate<flce::Accumulate>);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("fused_linear_cross_entropy", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("fused_linear_cross_entropy_forward", FlatForward<flce::ForwardMeta>);
  m.impl("fused_linear_cross_entropy_accumulate_", FlatAccumulate<flce::AccumulateMeta>);
}

FusedLinearCrossEntropyOutput Output(const at::Tensor& loss, const at::Tensor& entropy,
                                     const at::Tensor& is_top1, bool token_stats) {
  if (!token_stats) return {.loss = loss, .entropy_T = {}, .is_top1_T = {}};
  return {.loss = loss, .entropy_T = entropy, .is_top1_T = is_top1};
}

}  // namespace

FusedLinearCrossEntropyOutput FusedLinearCrossEntropy(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
    const OptionalTensor& bias, const FusedLinearCrossEntropyOptions& options) {
  const bool accumulate = c10::GradMode::is_enabled() &&
                          (options.grad_weight_VH.has_value() || options.grad_bias_V.has_value());
  if (accumulate) {
    CheckBuffersCoverHead(kOp, weight, bias, options.grad_weight_VH, options.grad_bias_V);
    const auto out = AccumulateFunction::apply(
        hidden, weight, target, bias, options.grad_weight_VH, options.grad_bias_V,
        OptionsFrom(options), NeedsGrad(hidden), options.grad_weight_is_new);
    return Output(out[0], out[1], out[2], options.token_stats);
  }
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::fused_linear_cross_entropy");
  const auto [loss, entropy, is_top1] =
      op.call(hidden, weight, target, bias, options.scale, options.ignore_index,
              options.token_stats, options.token_weight_T, options.valid_rows_M, options.softcap,
              options.temperature, options.label_smoothing, options.lse_square_scale);
  return Output(loss, entropy, is_top1, options.token_stats);
}

}  // namespace liger::kernels
