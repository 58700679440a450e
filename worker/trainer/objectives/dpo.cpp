#include "worker/trainer/objectives/dpo.h"

#include <ATen/ATen.h>

#include "worker/trainer/objectives/pair_metrics.h"
#include "worker/trainer/objectives/router_loss.h"
#include "worker/trainer/objectives/row_loss.h"

namespace liger::trainer {
namespace {

// Of each token that predicts one of an answer: 1 up to the length of the pair's
// shorter answer, `alpha` beyond (Liu et al. 2024, arXiv:2409.06411). On the host.
at::Tensor LengthWeights(const AnswerTargets& targets, const SequenceLayout& sequences,
                         double alpha) {
  const int64_t pairs = sequences.num_sequences() / 2;
  at::Tensor weights_T = targets.targets_T.ne(kIgnoredLabel).to(at::kDouble);
  const at::Tensor shorter_P =
      at::minimum(targets.counts_S.slice(0, 0, pairs), targets.counts_S.slice(0, pairs));
  for (int64_t s = 0; s < 2 * pairs; ++s) {
    at::Tensor own = weights_T.slice(0, sequences.offsets_S1[s], sequences.offsets_S1[s + 1]);
    const at::Tensor beyond = own.cumsum(0).gt(shorter_P[s % pairs].item<double>());
    own.mul_(at::where(beyond, alpha, 1.0));
  }
  return weights_T;
}

// WPO's weight (Zhou et al. 2024, arXiv:2406.11827, eq. 2): the answers' mean
// token log-probabilities, each less that of the distribution's own samples.
at::Tensor PairWeights(const RowTokens& rows) {
  const at::Tensor aligned_C = rows.logp_C.detach() - rows.log_sum_sq_C;
  const PairValues weights = PairValues::Of((rows.Sum(aligned_C) / rows.counts_QR).exp());
  return weights.chosen * weights.rejected;
}

// Of some pairs; reference_S as of the whole batch.
DpoInput ToDpoInput(const RowTokens& rows, const at::Tensor& reference_S, const DpoOptions& options,
                    const StepContext& context) {
  const PairValues logps = PairValues::Of(rows.WeightedSum(rows.logp_C));
  const PairValues reference =
      PairValues::Of(reference_S.view({2, -1}).slice(1, rows.begin, rows.end));
  const PairValues lengths = PairValues::Of(rows.counts_QR);
  DpoInput in = {logps.chosen,       logps.rejected, reference.chosen,
                 reference.rejected, lengths.chosen, lengths.rejected};
  in.chosen_nll_P = -rows.Sum(rows.logp_C).select(0, 0) * StepMeanScale(context, /*pairs=*/1);
  if (options.use_weighting) in.weight_P = PairWeights(rows);
  return in;
}

// reference = alpha * model + (1 - alpha) * reference, in fp32 (TR-DPO, Gorbatovski
// et al. 2024, arXiv:2404.09656).
void MixInto(CausalLM& reference, const CausalLM& model, double alpha) {
  const at::NoGradGuard no_grad;
  const auto source = model.named_parameters();
  for (const auto& item : reference.named_parameters()) {
    at::Tensor target = item.value();
    const at::Tensor from = source[item.key()];
    target.copy_(at::lerp(target.to(at::kFloat), from.to(at::kFloat), alpha));
  }
}

}  // namespace

StepCounts DpoObjective::Count(const Batch& batch) const {
  return {CountChosenTargets(batch), batch.num_rows};
}

struct DpoObjective::Answers {
  ModelInput input;
  AnswerTargets host;
  RowTargets targets;

  // All that comes from the host, before the device is busy.
  Answers(const Batch& batch, const CausalLM& model, const DpoOptions& options)
      : input(ToModelInput(batch, model)),
        host(MakeAnswerTargets(batch, "a pair")),
        targets(host,
                options.ld_alpha ? LengthWeights(host, input.sequences, *options.ld_alpha)
                                 : at::Tensor(),
                input.sequences, batch.num_rows, model.device()) {
    TORCH_CHECK(targets.sequences_per_row() == 2, "DPO needs two sequences a row");
  }

  at::Tensor ReferenceLogps(CausalLM& reference) const {
    const RowTokens rows = DetachedRows(reference, input, targets);
    return rows.WeightedSum(rows.logp_C).reshape({-1});
  }
};

at::Tensor DpoObjective::ReferenceLogps(CausalLM& reference, const Batch& batch) const {
  const Answers answers(batch, reference, options_);
  return answers.ReferenceLogps(reference);
}

void DpoObjective::AfterStep(const CausalLM& model, int64_t step) {
  if (options_.sync_steps == 0 || step % options_.sync_steps != 0) return;
  if (mix_reference()) return mix_reference()(options_.mixup_alpha);
  MixInto(reference(), model, options_.mixup_alpha);
}

LossOutput DpoObjective::Forward(CausalLM& model, const Batch& batch, const StepContext& context) {
  const Answers answers(batch, model, options_);
  const at::Tensor reference_S = batch.reference_logp_A.defined()
                                     ? batch.reference_logp_A.to(model.device())
                                     : answers.ReferenceLogps(reference());
  at::Tensor aux_loss;
  const at::Tensor hidden_TD = model.Hidden(answers.input, /*cache=*/nullptr, &aux_loss);
  const RowLossOutput head = ComputeRowLoss(
      model, hidden_TD, answers.targets, context,
      [&](const RowTokens& rows) {
        const DpoInput in = ToDpoInput(rows, reference_S, options_, context);
        return DpoLoss(in, options_).mean() * rows.ShareOf(context);
      },
      /*rows_apart=*/SumsOverPairs(options_));

  LossOutput out;
  out.loss = head.loss.to(at::kFloat);
  out.num_tokens = batch.num_tokens;
  const RowTokens& all = head.all;
  const DpoInput in = ToDpoInput(all, reference_S, options_, context);
  out.metrics.Add("loss", DpoLoss(in, options_).sum(), static_cast<double>(batch.num_rows));
  AddPairMetrics({options_.beta * (in.chosen_logp_P - in.ref_chosen_logp_P),
                  options_.beta * (in.rejected_logp_P - in.ref_rejected_logp_P)},
                 {in.chosen_logp_P, in.rejected_logp_P}, out.metrics);
  AddLogitMetrics(all.Sum(all.mean_logit_C), all.counts_QR, out.metrics);
  out.metrics.Add("entropy", all.Sum(all.entropy_C).sum(), all.counts_QR.sum());
  out.metrics.Add("mean_token_accuracy", all.Sum(all.is_top1_C).select(0, 0).sum(),
                  in.chosen_length_P.sum());
  TakeShare(model, out);
  AddRouterLoss(aux_loss, model, context, static_cast<double>(context.rows), out);
  return out;
}

}  // namespace liger::trainer
