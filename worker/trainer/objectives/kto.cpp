#include "worker/trainer/objectives/kto.h"

#include <ATen/ATen.h>

#include "worker/trainer/objectives/router_loss.h"
#include "worker/trainer/objectives/row_loss.h"

namespace liger::trainer {
namespace {

// A row is one sequence.
at::Tensor SumOfRows(const RowTokens& rows, const at::Tensor& x_C) {
  return rows.Sum(x_C).select(0, 0);
}

// A batch on the device.
struct Answers {
  ModelInput input;
  RowTargets targets;

  Answers(const Batch& batch, const CausalLM& model, const char* row)
      : input(ToModelInput(batch, model)),
        targets(MakeAnswerTargets(batch, row), {}, input.sequences, batch.num_rows,
                model.device()) {}

  // Of the answers' log-probabilities, [R] fp64, without gradients.
  at::Tensor DetachedLogp(CausalLM& model) const {
    const RowTokens rows = DetachedRows(model, input, targets);
    return SumOfRows(rows, rows.logp_C);
  }
};

// The mean of r over the micro-batch's mismatched answers of all ranks, clamped.
at::Tensor ClampedMean(const at::Tensor& ratio_R, const StepContext& context) {
  const at::Tensor rows = at::scalar_tensor(ratio_R.numel(), ratio_R.options());
  at::Tensor sums_2 = at::stack({ratio_R.sum(), rows});
  if (context.stands_in) sums_2.zero_();
  if (context.sum_across_ranks) context.sum_across_ranks(sums_2);
  return (sums_2[0] / sums_2[1].clamp_min(1)).clamp_min(0);
}

}  // namespace

KtoOptions KtoOptions::FromSpec(const liger::v1::KtoMethod& spec) {
  KtoOptions options;
  if (spec.has_beta()) options.beta = spec.beta();
  if (spec.has_desirable_weight()) options.desirable_weight = spec.desirable_weight();
  if (spec.has_undesirable_weight()) options.undesirable_weight = spec.undesirable_weight();
  options.estimate_kl = spec.loss_type() != "apo_zero_unpaired";
  options.precompute_reference = spec.precompute_ref_log_probs();
  return options;
}

StepCounts KtoObjective::Count(const Batch& batch) const {
  return {batch.num_target_tokens, batch.num_rows};
}

at::Tensor KtoObjective::ReferenceLogps(CausalLM& reference, const Batch& batch) const {
  // The cut of a mismatched row may leave nothing of its answer.
  const Answers answers(batch, reference, batch.mismatched ? "a row" : nullptr);
  return answers.DetachedLogp(reference);
}

void KtoObjective::ForwardNothing(CausalLM& model, const StepContext& context) {
  if (!options_.estimate_kl) return;
  ClampedMean(at::empty({0}, at::TensorOptions(model.device()).dtype(at::kDouble)), context);
}

LossOutput KtoObjective::Forward(CausalLM& model, const Batch& batch, const StepContext& context) {
  TORCH_CHECK(batch.desirable_R.defined() && batch.mismatched, "KTO needs a label a row");
  const at::Device device = model.device();
  // All that comes from the host before the device is busy.
  const at::Tensor desirable_R = batch.desirable_R.to(device);
  const Answers answers(batch, model, "a row");
  const at::Tensor cached_A =
      batch.reference_logp_A.defined() ? batch.reference_logp_A.to(device) : at::Tensor();
  at::Tensor kl = at::zeros({}, at::TensorOptions(device).dtype(at::kDouble));
  if (options_.estimate_kl) {
    const Answers mismatched(*batch.mismatched, model, nullptr);
    const at::Tensor reference_R = cached_A.defined() ? cached_A.slice(0, batch.num_rows)
                                                      : mismatched.DetachedLogp(reference());
    kl = ClampedMean(mismatched.DetachedLogp(model) - reference_R, context);
  }
  const at::Tensor reference_R =
      cached_A.defined() ? cached_A.slice(0, 0, batch.num_rows) : answers.DetachedLogp(reference());
  at::Tensor aux_loss;
  const at::Tensor hidden_TD = model.Hidden(answers.input, /*cache=*/nullptr, &aux_loss);
  const at::Tensor sign_R = at::where(desirable_R, 1.0, -1.0);
  const at::Tensor weight_R =
      at::where(desirable_R, options_.desirable_weight, options_.undesirable_weight);
  // Summed over rows.
  const auto loss_of = [&](const RowTokens& rows) {
    const auto own = [&](const at::Tensor& x_R) { return x_R.slice(0, rows.begin, rows.end); };
    const at::Tensor ratio_R = SumOfRows(rows, rows.logp_C) - own(reference_R);
    const at::Tensor gain_R = options_.beta * own(sign_R) * (ratio_R - kl);
    return (own(weight_R) * (1 - gain_R.sigmoid())).sum();
  };
  const double step_rows = static_cast<double>(context.rows);
  const RowLossOutput head =
      ComputeRowLoss(model, hidden_TD, answers.targets, context,
                     [&](const RowTokens& rows) { return loss_of(rows) / step_rows; });

  LossOutput out;
  out.loss = head.loss.to(at::kFloat);
  out.num_tokens = batch.num_tokens;
  const RowTokens& all = head.all;
  const at::Tensor counts_R = all.counts_QR.select(0, 0);
  const double rows = static_cast<double>(batch.num_rows);
  out.metrics.Add("loss", loss_of(all), rows);
  out.metrics.Add("kl", kl * rows, rows);
  out.metrics.Add("entropy", all.Sum(all.entropy_C).sum(), counts_R.sum());
  const at::Tensor logp_R = SumOfRows(all, all.logp_C);
  const at::Tensor logits_R = SumOfRows(all, all.mean_logit_C);
  const at::Tensor wanted_R = desirable_R.to(at::kDouble), unwanted_R = 1 - wanted_R;
  const at::Tensor reward_R = options_.beta * (logp_R - reference_R);
  // Of the classes' means, where the micro-batch has both; as TRL.
  const at::Tensor both = wanted_R.any().logical_and(unwanted_R.any()).to(at::kDouble);
  const auto mean = [&](const at::Tensor& own_R) {
    return (reward_R * own_R).sum() / own_R.sum().clamp_min(1);
  };
  out.metrics.Add("rewards/margins", (mean(wanted_R) - mean(unwanted_R)) * both, both);
  for (const bool wanted : {true, false}) {
    const std::string side = wanted ? "chosen" : "rejected";
    const at::Tensor& own_R = wanted ? wanted_R : unwanted_R;
    const auto add = [&](const char* name, const at::Tensor& values_R, const at::Tensor& weight) {
      out.metrics.Add(name + side, (values_R * own_R).sum(), weight.sum());
    };
    add("rewards/", reward_R, own_R);
    add("logps/", logp_R, own_R);
    add("logits/", logits_R, counts_R * own_R);
  }
  TakeShare(model, out);
  AddRouterLoss(aux_loss, model, context, step_rows, out);
  return out;
}

}  // namespace liger::trainer
