#include "kernels/fused_linear_logprob/fused_linear_logprob.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels/common/autograd.h"
#include "kernels/common/head_buffers.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob_impl.h"

namespace liger::kernels {
namespace {

using fllp::OptionalTensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kOp[] = "fused_linear_logprob";

// logp, entropy, log_sum_sq, mean_logit, is_top1.
using Public = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

using fllp::HeadOptions;

// The ops' flat arguments.
template <auto kForward>
fllp::ForwardResult FlatForward(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& target, const OptionalTensor& bias,
                                int64_t ignore_index, bool token_stats,
                                const OptionalTensor& valid_rows, double softcap,
                                double temperature, bool keep_unit_grad) {
  return kForward(hidden, weight, target, bias, {ignore_index, valid_rows, {softcap, temperature}},
                  token_stats, keep_unit_grad);
}

template <auto kBackward>
fllp::BackwardResult FlatBackward(const at::Tensor& grad_logp, const at::Tensor& hidden,
                                  const at::Tensor& weight, const at::Tensor& target,
                                  const OptionalTensor& bias, const at::Tensor& logsumexp,
                                  int64_t ignore_index, const OptionalTensor& valid_rows,
                                  double softcap, double temperature, bool need_hidden,
                                  bool need_weight, bool need_bias) {
  return kBackward(grad_logp, hidden, weight, target, bias, logsumexp,
                   {ignore_index, valid_rows, {softcap, temperature}}, need_hidden, need_weight,
                   need_bias);
}

template <auto kAccumulate>
at::Tensor FlatAccumulate(const at::Tensor& grad_logp, const at::Tensor& hidden,
                          const at::Tensor& weight, const at::Tensor& target,
                          const OptionalTensor& bias, const at::Tensor& logsumexp,
                          const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                          int64_t ignore_index, const OptionalTensor& valid_rows, double softcap,
                          double temperature, bool need_hidden, bool grad_weight_is_new) {
  return kAccumulate(grad_logp, hidden, weight, target, bias, logsumexp, grad_weight, grad_bias,
                     {ignore_index, valid_rows, {softcap, temperature}}, need_hidden,
                     grad_weight_is_new);
}

fllp::ForwardResult CallForward(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& target, const OptionalTensor& bias,
                                const HeadOptions& o, bool token_stats, bool keep_unit_grad) {
  static const auto op =
      FindOp<decltype(FlatForward<fllp::Forward>)>("liger::fused_linear_logprob_forward");
  return op.call(hidden, weight, target, bias, o.ignore_index, token_stats, o.valid_rows_M,
                 o.map.softcap, o.map.temperature, keep_unit_grad);
}

Public WithoutAutograd(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                       const OptionalTensor& bias, int64_t ignore_index, bool token_stats,
                       const OptionalTensor& valid_rows, double softcap, double temperature) {
  const auto [logp, entropy, log_sum_sq, mean_logit, is_top1, logsumexp, unit] =
      CallForward(hidden, weight, target, bias, {ignore_index, valid_rows, {softcap, temperature}},
                  token_stats, false);
  return {logp, entropy, log_sum_sq, mean_logit, is_top1};
}

struct Needs {
  bool hidden, weight, bias;
};

// What of hidden, weight and bias a gradient must reach, by autograd or by buffer.
Needs FindNeeds(const at::Tensor& hidden, const at::Tensor& weight, const OptionalTensor& bias) {
  return {NeedsGrad(hidden), NeedsGrad(weight), NeedsGrad(bias)};
}

class Function : public torch::autograd::Function<Function> {
 public:
  // Gradients are off in here, so the caller says which are needed.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& hidden,
                               const at::Tensor& weight, const at::Tensor& target,
                               const OptionalTensor& bias, const HeadOptions& options,
                               bool token_stats, bool need_hidden, bool need_weight, bool need_bias,
                               const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                               bool grad_weight_is_new) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const bool head_is_frozen =
        !need_weight && !need_bias && !grad_weight.has_value() && !grad_bias.has_value();
    const bool keep_unit_grad = need_hidden && head_is_frozen;
    const auto [logp, entropy, log_sum_sq, mean_logit, is_top1, logsumexp, unit_grad] =
        CallForward(hidden, weight, target, bias, options, token_stats, keep_unit_grad);
    if (keep_unit_grad) {
      ctx->save_for_backward({unit_grad});
    } else {
      ctx->save_for_backward({hidden, weight, target, logsumexp, bias.value_or(at::Tensor()),
                              options.valid_rows_M.value_or(at::Tensor())});
      ctx->saved_data["grad_weight"] = grad_weight;
      ctx->saved_data["grad_bias"] = grad_bias;
      ctx->saved_data["grad_weight_is_new"] = grad_weight_is_new;
    }
    ctx->saved_data["keep_unit_grad"] = keep_unit_grad;
    ctx->saved_data["dtype"] = static_cast<int64_t>(hidden.scalar_type());
    ctx->saved_data["ignore_index"] = options.ignore_index;
    ctx->saved_data["softcap"] = options.map.softcap;
    ctx->saved_data["temperature"] = options.map.temperature;
    ctx->saved_data["need_hidden"] = need_hidden;
    ctx->saved_data["need_weight"] = need_weight;
    ctx->saved_data["need_bias"] = need_bias;
    ctx->mark_non_differentiable({entropy, log_sum_sq, mean_logit, is_top1});
    return {logp, entropy, log_sum_sq, mean_logit, is_top1};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CheckFirstDerivative(kOp);
    variable_list out(12);
    const at::Tensor& grad_logp = grads[0];
    if (ctx->saved_data["keep_unit_grad"].toBool()) {
      const at::Tensor unit_grad = ctx->get_saved_variables()[0];
      const auto dtype = static_cast<at::ScalarType>(ctx->saved_data["dtype"].toInt());
      out[0] = (unit_grad * grad_logp.unsqueeze(1)).to(dtype);
    } else if (ctx->saved_data["grad_weight"].isTensor() ||
               ctx->saved_data["grad_bias"].isTensor()) {
      out[0] = IntoBuffers(ctx, grad_logp);
    } else {
      std::tie(out[0], out[1], out[3]) = AsTensors(ctx, grad_logp);
    }
    if (!ctx->saved_data["need_hidden"].toBool()) out[0] = at::Tensor();
    if (!ctx->saved_data["need_weight"].toBool()) out[1] = at::Tensor();
    if (!ctx->saved_data["need_bias"].toBool()) out[3] = at::Tensor();
    return out;
  }

 private:
  static OptionalTensor OrNone(const at::Tensor& saved) {
    return saved.defined() ? OptionalTensor(saved) : std::nullopt;
  }

  static fllp::BackwardResult AsTensors(AutogradContext* ctx, const at::Tensor& grad_logp) {
    static const auto op =
        FindOp<decltype(FlatBackward<fllp::Backward>)>("liger::fused_linear_logprob_backward");
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    return op.call(grad_logp, saved[0], saved[1], saved[2], OrNone(saved[4]), saved[3],
                   data["ignore_index"].toInt(), OrNone(saved[5]), data["softcap"].toDouble(),
                   data["temperature"].toDouble(), data["need_hidden"].toBool(),
                   data["need_weight"].toBool(), data["need_bias"].toBool());
  }

  static at::Tensor IntoBuffers(AutogradContext* ctx, const at::Tensor& grad_logp) {
    static const auto op = FindOp<decltype(FlatAccumulate<fllp::BackwardAccumulate>)>(
        "liger::fused_linear_logprob_backward_accumulate_");
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    return op.call(grad_logp, saved[0], saved[1], saved[2], OrNone(saved[4]), saved[3],
                   data["grad_weight"].toOptional<at::Tensor>(),
                   data["grad_bias"].toOptional<at::Tensor>(), data["ignore_index"].toInt(),
                   OrNone(saved[5]), data["softcap"].toDouble(), data["temperature"].toDouble(),
                   data["need_hidden"].toBool(), data["grad_weight_is_new"].toBool());
  }
};

Public WithAutograd(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                    const OptionalTensor& bias, int64_t ignore_index, bool token_stats,
                    const OptionalTensor& valid_rows, double softcap, double temperature) {
  const Needs needs = FindNeeds(hidden, weight, bias);
  const HeadOptions options = {ignore_index, valid_rows, {softcap, temperature}};
  const auto out = Function::apply(hidden, weight, target, bias, options, token_stats, needs.hidden,
                                   needs.weight, needs.bias, OptionalTensor(), OptionalTensor(),
                                   /*grad_weight_is_new=*/false);
  return {out[0], out[1], out[2], out[3], out[4]};
}

TORCH_LIBRARY_FRAGMENT(liger, m) {
  m.def(
      "fused_linear_logprob(Tensor hidden, Tensor weight, Tensor target, Tensor? bias=None, "
      "int ignore_index=-100, bool token_stats=False, Tensor? valid_rows=None, float softcap=0.0, "
      "float temperature=1.0) -> (Tensor logp, Tensor entropy, "
      "Tensor log_sum_sq, Tensor mean_logit, Tensor is_top1)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "fused_linear_logprob_forward(Tensor hidden, Tensor weight, Tensor target, Tensor? bias, "
      "int ignore_index, bool token_stats, Tensor? valid_rows, float softcap, float temperature, "
      "bool keep_unit_grad) -> (Tensor logp, "
      "Tensor entropy, Tensor log_sum_sq, Tensor mean_logit, Tensor is_top1, Tensor logsumexp, "
      "Tensor unit_grad_hidden)");
  m.def(
      "fused_linear_logprob_backward(Tensor grad_logp, Tensor hidden, Tensor weight, "
      "Tensor target, Tensor? bias, Tensor logsumexp, int ignore_index, Tensor? valid_rows, "
      "float softcap, float temperature, bool need_hidden, "
      "bool need_weight, bool need_bias) -> (Tensor, Tensor, Tensor)");
  m.def(
      "fused_linear_logprob_backward_accumulate_(Tensor grad_logp, Tensor hidden, Tensor weight, "
      "Tensor target, Tensor? bias, Tensor logsumexp, Tensor(a!)? grad_weight, "
      "Tensor(b!)? grad_bias, int ignore_index, Tensor? valid_rows, float softcap, "
      "float temperature, bool need_hidden, bool grad_weight_is_new=False) -> Tensor");
}
TORCH_LIBRARY_IMPL(liger, CompositeExplicitAutograd, m) {
  m.impl("fused_linear_logprob", WithoutAutograd);
  m.impl("fused_linear_logprob_forward", FlatForward<fllp::Forward>);
  m.impl("fused_linear_logprob_backward", FlatBackward<fllp::Backward>);
  m.impl("fused_linear_logprob_backward_accumulate_", FlatAccumulate<fllp::BackwardAccumulate>);
}
TORCH_LIBRARY_IMPL(liger, Autograd, m) { m.impl("fused_linear_logprob", WithAutograd); }
TORCH_LIBRARY_IMPL(liger, Meta, m) {
  m.impl("fused_linear_logprob_forward", FlatForward<fllp::ForwardMeta>);
  m.impl("fused_linear_logprob_backward", FlatBackward<fllp::BackwardMeta>);
  m.impl("fused_linear_logprob_backward_accumulate_", FlatAccumulate<fllp::BackwardAccumulateMeta>);
}

FusedLinearLogprobOutput Output(const at::Tensor& logp, const at::Tensor& entropy,
                                const at::Tensor& log_sum_sq, const at::Tensor& mean_logit,
                                const at::Tensor& is_top1, bool token_stats) {
  FusedLinearLogprobOutput out{.logp_T = logp};
  if (!token_stats) return out;
  out.entropy_T = entropy;
  out.log_sum_sq_T = log_sum_sq;
  out.mean_logit_T = mean_logit;
  out.is_top1_T = is_top1;
  return out;
}

}  // namespace

FusedLinearLogprobOutput FusedLinearLogprob(const at::Tensor& hidden, const at::Tensor& weight,
                                            const at::Tensor& target, const OptionalTensor& bias,
                                            const FusedLinearLogprobOptions& options) {
  const Needs needs = FindNeeds(hidden, weight, bias);
  const bool buffers = options.grad_weight_VH.has_value() || options.grad_bias_V.has_value();
  if (buffers && (needs.hidden || needs.weight || needs.bias)) {
    CheckBuffersCoverHead(kOp, weight, bias, options.grad_weight_VH, options.grad_bias_V);
    const auto out = Function::apply(
        hidden, weight, target, bias,
        HeadOptions{
            options.ignore_index, options.valid_rows_M, {options.softcap, options.temperature}},
        options.token_stats, needs.hidden, false, false, options.grad_weight_VH,
        options.grad_bias_V, options.grad_weight_is_new);
    return Output(out[0], out[1], out[2], out[3], out[4], options.token_stats);
  }
  static const auto op = FindOp<decltype(WithoutAutograd)>("liger::fused_linear_logprob");
  const auto [logp, entropy, log_sum_sq, mean_logit, is_top1] =
      op.call(hidden, weight, target, bias, options.ignore_index, options.token_stats,
              options.valid_rows_M, options.softcap, options.temperature);
  return Output(logp, entropy, log_sum_sq, mean_logit, is_top1, options.token_stats);
}

}  // namespace liger::kernels
