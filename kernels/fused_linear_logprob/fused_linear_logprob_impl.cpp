#include "kernels/fused_linear_logprob/fused_linear_logprob_impl.h"

#include <ATen/ATen.h>

#include "kernels/common/check.h"
#include "kernels/common/cpu.h"
#include "kernels/common/head_buffers.h"
#include "kernels/common/linear_head.h"
#include "kernels/common/path_of.h"

namespace liger::kernels::fllp {
namespace {

constexpr char kOp[] = "fused_linear_logprob";

void CheckBackward(const at::Tensor& grad_logp, const at::Tensor& hidden, const at::Tensor& weight,
                   const at::Tensor& target, const OptionalTensor& bias,
                   const at::Tensor& logsumexp) {
  CheckLinearHead(kOp, hidden, weight, target, bias);
  const Arg hidden_arg{kOp, "hidden", hidden}, grad_arg{kOp, "grad_logp", grad_logp};
  const Arg lse_arg{kOp, "logsumexp", logsumexp};
  CheckDtype(grad_arg, ComputeDtype(hidden));
  CheckShape(grad_arg, target.sym_sizes(), "[T]");
  CheckSameDevice(grad_arg, hidden_arg);
  CheckDtype(lse_arg, at::kDouble);
  CheckShape(lse_arg, target.sym_sizes(), "[T]");
  CheckSameDevice(lse_arg, hidden_arg);
}

void CheckOptions(const at::Tensor& hidden, const HeadOptions& options) {
  CheckHeadMap(kOp, options.map);
  CheckValidRows(kOp, options.valid_rows_M, hidden);
}

// Head gradients are added into grad_weight and grad_bias where given; new_weight: as of
// LinearHeadGradients.
at::Tensor RunBackward(const at::Tensor& grad_logp, const at::Tensor& hidden,
                       const at::Tensor& weight, const at::Tensor& target,
                       const OptionalTensor& bias, const at::Tensor& logsumexp,
                       const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                       const HeadOptions& options, bool need_hidden, bool new_weight) {
  const LinearHead head(kOp, hidden, weight, target, bias, options.ignore_index,
                        options.valid_rows_M);
  LinearHeadGradients gradients(head, need_hidden, grad_weight, grad_bias, /*scale=*/1,
                                at::ScalarType::Undefined, new_weight);
  // d logp / d z = e_y - p, the negative of cross entropy's.
  const at::Tensor factor = head.ToValidTokens(grad_logp).neg();
  const at::Tensor lse = head.ToValidTokens(logsumexp).contiguous();
  head.ForEachChunk([&](int64_t begin, at::Tensor& logits, const at::Tensor& y) {
    const int64_t C = logits.size(0);
    gradients.AddChunk(begin, logits, lse.narrow(0, begin, C), y, factor.narrow(0, begin, C),
                       options.map);
  });
  return gradients.grad_hidden_TH();
}

}  // namespace

ForwardResult Forward(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                      const OptionalTensor& bias, const HeadOptions& head_options, bool token_stats,
                      bool keep_unit_grad) {
  CheckLinearHead(kOp, hidden, weight, target, bias);
  CheckOptions(hidden, head_options);
  RecordPath(Op::kFusedLinearLogprob, PathOf(hidden));
  const LinearHead head(kOp, hidden, weight, target, bias, head_options.ignore_index,
                        head_options.valid_rows_M);
  LinearHeadGradients unit_gradient(head, keep_unit_grad, std::nullopt, std::nullopt, /*scale=*/1,
                                    ComputeDtype(hidden));
  const auto options = ComputeOf(hidden);
  const int64_t M = head.num_valid(), S = token_stats ? M : 0;
  const at::Tensor minus_one = at::full({M}, -1, options);
  const at::Tensor logp = at::empty({M}, options);
  const at::Tensor logsumexp = at::empty({M}, options.dtype(at::kDouble));
  const at::Tensor entropy = at::empty({S}, options), log_sum_sq = at::empty({S}, options);
  const at::Tensor mean_logit = at::empty({S}, options), is_top1 = at::empty({S}, options);
  head.ForEachChunk([&](int64_t begin, at::Tensor& logits, const at::Tensor& y) {
    const int64_t C = logits.size(0);
    const LogitsStats stats = ReduceHeadLogits(logits, y, head_options.map, token_stats);
    const auto store = [&](const at::Tensor& all, const at::Tensor& chunk) {
      all.narrow(0, begin, C).copy_(chunk);
    };
    store(logp, stats.logp);
    store(logsumexp, stats.logsumexp);
    if (token_stats) {
      store(entropy, stats.entropy);
      store(log_sum_sq, stats.log_sum_sq);
      store(mean_logit, stats.mean_logit);
      store(is_top1, stats.is_top1);
    }
    if (keep_unit_grad) {
      unit_gradient.AddChunk(begin, logits, stats.logsumexp, y, minus_one.narrow(0, begin, C),
                             head_options.map);
    }
  });
  const auto stat = [&](const at::Tensor& t) { return token_stats ? head.ToAllTokens(t) : t; };
  return {head.ToAllTokens(logp),
          stat(entropy),
          stat(log_sum_sq),
          stat(mean_logit),
          stat(is_top1),
          head.ToAllTokens(logsumexp),
          unit_gradient.grad_hidden_TH()};
}

BackwardResult Backward(const at::Tensor& grad_logp, const at::Tensor& hidden,
                        const at::Tensor& weight, const at::Tensor& target,
                        const OptionalTensor& bias, const at::Tensor& logsumexp,
                        const HeadOptions& options, bool need_hidden, bool need_weight,
                        bool need_bias) {
  CheckBackward(grad_logp, hidden, weight, target, bias, logsumexp);
  CheckOptions(hidden, options);
  OptionalTensor grad_weight, grad_bias;
  if (need_weight) grad_weight = at::empty(weight.sizes(), ComputeOf(hidden));
  if (need_bias && bias.has_value()) grad_bias = at::zeros(bias->sizes(), ComputeOf(hidden));
  const at::Tensor grad_hidden = RunBackward(grad_logp, hidden, weight, target, bias, logsumexp,
                                             grad_weight, grad_bias, options, need_hidden,
                                             /*new_weight=*/true);
  return {grad_hidden,
          grad_weight.has_value() ? grad_weight->to(weight.scalar_type()) : None(hidden),
          grad_bias.has_value() ? grad_bias->to(weight.scalar_type()) : None(hidden)};
}

at::Tensor BackwardAccumulate(const at::Tensor& grad_logp, const at::Tensor& hidden,
                              const at::Tensor& weight, const at::Tensor& target,
                              const OptionalTensor& bias, const at::Tensor& logsumexp,
                              const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                              const HeadOptions& options, bool need_hidden,
                              bool grad_weight_is_new) {
  CheckBackward(grad_logp, hidden, weight, target, bias, logsumexp);
  CheckOptions(hidden, options);
  CheckHeadBuffer(kOp, "grad_weight", grad_weight, hidden, weight.sym_sizes(), "[V, H]");
  CheckHeadBuffer(kOp, "grad_bias", grad_bias, hidden, weight.sym_sizes().slice(0, 1), "[V]");
  return RunBackward(grad_logp, hidden, weight, target, bias, logsumexp, grad_weight, grad_bias,
                     options, need_hidden, grad_weight_is_new);
}

ForwardResult ForwardMeta(const at::Tensor& hidden, const at::Tensor& weight,
                          const at::Tensor& target, const OptionalTensor& bias,
                          const HeadOptions& head_options, bool token_stats, bool keep_unit_grad) {
  CheckLinearHead(kOp, hidden, weight, target, bias);
  CheckOptions(hidden, head_options);
  const auto options = ComputeOf(hidden);
  const auto per_token = [&](bool wanted, c10::ScalarType dtype) {
    return wanted ? at::empty_symint({hidden.sym_size(0)}, options.dtype(dtype))
                  : at::empty({0}, options.dtype(dtype));
  };
  const auto compute = ComputeDtype(hidden);
  return {per_token(true, compute),
          per_token(token_stats, compute),
          per_token(token_stats, compute),
          per_token(token_stats, compute),
          per_token(token_stats, compute),
          per_token(true, at::kDouble),
          keep_unit_grad ? at::empty_symint(hidden.sym_sizes(),
                                            hidden.options().dtype(ComputeDtype(hidden)))
                         : None(hidden)};
}

BackwardResult BackwardMeta(const at::Tensor& grad_logp, const at::Tensor& hidden,
                            const at::Tensor& weight, const at::Tensor& target,
                            const OptionalTensor& bias, const at::Tensor& logsumexp,
                            const HeadOptions& options, bool need_hidden, bool need_weight,
                            bool need_bias) {
  CheckBackward(grad_logp, hidden, weight, target, bias, logsumexp);
  CheckOptions(hidden, options);
  return {need_hidden ? at::empty_symint(hidden.sym_sizes(), hidden.options()) : None(hidden),
          need_weight ? at::empty_symint(weight.sym_sizes(), weight.options()) : None(hidden),
          need_bias && bias.has_value() ? at::empty_symint(bias->sym_sizes(), bias->options())
                                        : None(hidden)};
}

at::Tensor BackwardAccumulateMeta(const at::Tensor& grad_logp, const at::Tensor& hidden,
                                  const at::Tensor& weight, const at::Tensor& target,
                                  const OptionalTensor& bias, const at::Tensor& logsumexp,
                                  const OptionalTensor&, const OptionalTensor&,
                                  const HeadOptions& options, bool need_hidden, bool) {
  CheckBackward(grad_logp, hidden, weight, target, bias, logsumexp);
  CheckOptions(hidden, options);
  return need_hidden ? at::empty_symint(hidden.sym_sizes(), hidden.options()) : None(hidden);
}

}  // namespace liger::kernels::fllp
