#include "worker/trainer/objectives/sft.h"

#include <algorithm>

#include "kernels/common/logits.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "worker/trainer/objectives/neftune.h"
#include "worker/trainer/objectives/router_loss.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

struct NllOutput {
  at::Tensor loss;  // scale * sum of negative log-probabilities
  at::Tensor entropy_sum, top1_sum;
};

// Head and loss in one; the logits never exist.
NllOutput FusedNll(CausalLM& model, const at::Tensor& hidden_TD, const Targets& targets,
                   double scale, const SftOptions& sft, const StepContext& context) {
  kernels::FusedLinearCrossEntropyOptions options;
  options.scale = scale;
  options.ignore_index = kIgnoredLabel;
  options.token_stats = true;
  context.LendHeadGradient(options);
  options.valid_rows_M = targets.rows_M;
  options.softcap = model.config().final_logit_softcapping;
  options.label_smoothing = sft.label_smoothing;
  options.lse_square_scale = sft.z_loss_weight;
  const auto out = kernels::FusedLinearCrossEntropy(hidden_TD, model.HeadWeight(),
                                                    targets.targets_T, std::nullopt, options);
  return {out.loss, out.entropy_T.sum(), out.is_top1_T.sum()};
}

// Entropy and accuracy from logits at hand, which are read once: transformers reports neither, so
// they must not take what its own operations for them would (6 % of a step on a GPU).
void AddLogitStats(const at::Tensor& logits_TV, const at::Tensor& targets_T, NllOutput& out) {
  const at::NoGradGuard no_grad;
  const kernels::LogitsStats stats =
      kernels::ReduceLogits(logits_TV.detach(), targets_T, kIgnoredLabel, /*stats=*/true);
  out.entropy_sum = stats.entropy.sum();
  out.top1_sum = stats.is_top1.sum();
}

at::Tensor LogitsLoss(const at::Tensor& logits_TV, const at::Tensor& targets_T, double scale,
                      const SftOptions& sft, bool fused) {
  if (sft.label_smoothing == 0 && sft.z_loss_weight == 0) {
    return fused ? kernels::CrossEntropy(logits_TV, targets_T, scale, kIgnoredLabel)
                 : kernels::baseline::CrossEntropy(logits_TV, targets_T, scale, kIgnoredLabel);
  }
  const kernels::CrossEntropyOptions options{.reduction = kernels::Reduction::kSum,
                                             .scale = scale,
                                             .ignore_index = kIgnoredLabel,
                                             .label_smoothing = sft.label_smoothing,
                                             .lse_square_scale = sft.z_loss_weight};
  return fused ? kernels::CrossEntropyWithOptions(logits_TV, targets_T, options).loss
               : kernels::baseline::CrossEntropyWithOptions(logits_TV, targets_T, options).loss;
}

// Logits first, then the loss, as transformers; the cross entropy itself is
// fused or not by its own switch.
NllOutput LogitsNll(CausalLM& model, const at::Tensor& hidden_TD, const at::Tensor& targets_T,
                    double scale, const SftOptions& sft) {
  const at::Tensor logits_TV = model.Logits(hidden_TD);
  NllOutput out;
  out.loss = LogitsLoss(logits_TV, targets_T, scale, sft, model.kernels().cross_entropy);
  AddLogitStats(logits_TV, targets_T, out);
  return out;
}

}  // namespace

SftOptions SftOptions::FromSpec(const liger::v1::SftMethod& spec) {
  return {.label_smoothing = spec.label_smoothing_factor(),
          .z_loss_weight = spec.z_loss_weight(),
          .neftune_noise_alpha = spec.neftune_noise_alpha()};
}

StepCounts SftObjective::Count(const Batch& batch) const {
  return {batch.num_target_tokens, batch.num_rows};
}

bool SftObjective::FusesHead(const CausalLM& model) const {
  return model.kernels().fused_linear_cross_entropy;
}

LossOutput SftObjective::Forward(CausalLM& model, const Batch& batch, const StepContext& context) {
  const bool noisy = options_.neftune_noise_alpha > 0 && at::GradMode::is_enabled();
  // Every sequence gets noise of its own, so none has anything in common with another.
  ModelInput input = ToModelInput(batch, model, /*may_share=*/!noisy);
  if (noisy) {
    input.embedding_noise_UD =
        NeftuneNoise(input.sequences, options_.neftune_noise_alpha, model.EmbeddingWeight());
  }
  const at::Tensor targets_T = NextTokenTargets(batch.labels_T, batch.cu_seqlens_S1);
  const Targets targets =
      Targets::ToDevice(input.sequences.Own(targets_T, kIgnoredLabel), model.device());
  const double step_tokens = static_cast<double>(std::max<int64_t>(context.loss_tokens, 1));
  at::Tensor aux_loss;
  const at::Tensor hidden_TD = model.Hidden(input, /*cache=*/nullptr, &aux_loss);
  const NllOutput nll =
      FusesHead(model) ? FusedNll(model, hidden_TD, targets, 1 / step_tokens, options_, context)
                       : LogitsNll(model, hidden_TD, targets.targets_T, 1 / step_tokens, options_);

  LossOutput out;
  out.loss = nll.loss;
  out.num_tokens = batch.num_tokens;
  const double tokens = static_cast<double>(targets.rows_M.size(0));
  out.metrics.Add("loss", nll.loss.detach().to(at::kDouble) * step_tokens, tokens);
  out.metrics.Add("entropy", nll.entropy_sum, tokens);
  out.metrics.Add("mean_token_accuracy", nll.top1_sum, tokens);
  AddRouterLoss(aux_loss, model, context, step_tokens, out);
  return out;
}

}  // namespace liger::trainer
