#include "worker/trainer/objectives/sft.h"

#include <algorithm>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "worker/trainer/objectives/router_loss.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

struct NllOutput {
  at::Tensor loss;  // scale * sum of negative log-probabilities
  at::Tensor entropy_sum, top1_sum;
};

// Head and loss in one; the logits never exist.
NllOutput FusedNll(CausalLM& model, const at::Tensor& hidden_TD, const at::Tensor& targets_T,
                   double scale, const StepContext& context) {
  kernels::FusedLinearCrossEntropyOptions options;
  options.scale = scale;
  options.ignore_index = kIgnoredLabel;
  options.token_stats = true;
  options.grad_weight_VH = context.head_gradient_VD;
  const auto out = kernels::FusedLinearCrossEntropy(hidden_TD, model.HeadWeight(), targets_T,
                                                    std::nullopt, options);
  return {out.loss, out.entropy_T.sum(), out.is_top1_T.sum()};
}

// Entropy and accuracy from logits at hand, a few rows at a time.
void AddLogitStats(const at::Tensor& logits_TV, const at::Tensor& targets_T, NllOutput& out) {
  constexpr int64_t kRows = 256;
  const at::NoGradGuard no_grad;
  out.entropy_sum = at::zeros({}, logits_TV.options().dtype(at::kFloat));
  out.top1_sum = at::zeros({}, out.entropy_sum.options());
  for (int64_t begin = 0; begin < logits_TV.size(0); begin += kRows) {
    const at::Tensor logits_RV = logits_TV.slice(0, begin, begin + kRows);
    const at::Tensor targets_R = targets_T.slice(0, begin, begin + kRows);
    const at::Tensor valid_R = targets_R.ne(kIgnoredLabel);
    const at::Tensor logp_RV = at::log_softmax(logits_RV, -1, at::kFloat);
    const at::Tensor entropy_R = -(logp_RV.exp() * logp_RV).sum(-1);
    out.entropy_sum += (entropy_R * valid_R).sum();
    out.top1_sum += logits_RV.argmax(-1).eq(targets_R).sum();
  }
}

// Logits first, then the loss, as transformers; the cross entropy itself is
// fused or not by its own switch.
NllOutput LogitsNll(CausalLM& model, const at::Tensor& hidden_TD, const at::Tensor& targets_T,
                    double scale) {
  const at::Tensor logits_TV = model.Logits(hidden_TD);
  NllOutput out;
  out.loss = model.kernels().cross_entropy
                 ? kernels::CrossEntropy(logits_TV, targets_T, scale, kIgnoredLabel)
                 : kernels::baseline::CrossEntropy(logits_TV, targets_T, scale, kIgnoredLabel);
  AddLogitStats(logits_TV, targets_T, out);
  return out;
}

}  // namespace

StepCounts SftObjective::Count(const Batch& batch) const {
  return {batch.num_target_tokens, batch.num_rows};
}

bool SftObjective::FusesHead(const CausalLM& model) const {
  // The fused head knows no softcap yet.
  return model.kernels().fused_linear_cross_entropy && model.config().final_logit_softcapping == 0;
}

LossOutput SftObjective::Forward(CausalLM& model, const Batch& batch, const StepContext& context) {
  const ModelInput input = ToModelInput(batch, model);
  at::Tensor targets_T = NextTokenTargets(batch.labels_T, batch.cu_seqlens_S1).to(model.device());
  const double step_tokens = static_cast<double>(std::max<int64_t>(context.loss_tokens, 1));
  at::Tensor aux_loss;
  at::Tensor hidden_TD = model.Hidden(input, /*cache=*/nullptr, &aux_loss);
  if (model.kernels().fused_linear_cross_entropy && !FusesHead(model)) {
    // A capped head at least does without the rows that have no target.
    const at::Tensor rows_M = TargetRows(targets_T);
    hidden_TD = hidden_TD.index_select(0, rows_M);
    targets_T = targets_T.index_select(0, rows_M);
  }
  const NllOutput nll = FusesHead(model)
                            ? FusedNll(model, hidden_TD, targets_T, 1 / step_tokens, context)
                            : LogitsNll(model, hidden_TD, targets_T, 1 / step_tokens);

  LossOutput out;
  out.loss = nll.loss;
  out.num_tokens = batch.num_tokens;
  const double tokens = static_cast<double>(batch.num_target_tokens);
  out.metrics.Add("loss", nll.loss.detach().to(at::kDouble) * step_tokens, tokens);
  out.metrics.Add("entropy", nll.entropy_sum, tokens);
  out.metrics.Add("mean_token_accuracy", nll.top1_sum, tokens);
  AddRouterLoss(aux_loss, model.config(), context, step_tokens, out);
  return out;
}

}  // namespace liger::trainer
