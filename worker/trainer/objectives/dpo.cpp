#include "worker/trainer/objectives/dpo.h"

#include <ATen/ATen.h>

#include "worker/trainer/objectives/pair_metrics.h"
#include "worker/trainer/objectives/router_loss.h"
#include "worker/trainer/objectives/token_logprobs.h"

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
at::Tensor PairWeights(const TokenLogprobs& tokens, const at::Tensor& answer_T,
                       const at::Tensor& counts_S, const SequenceLayout& sequences) {
  const at::Tensor aligned_T =
      (tokens.logp_T.detach() - tokens.log_sum_sq_T).to(at::kDouble) * answer_T;
  const at::Tensor weights_S = (SumBySequence(aligned_T, sequences) / counts_S).exp();
  const int64_t pairs = sequences.num_sequences() / 2;
  return weights_S.slice(0, 0, pairs) * weights_S.slice(0, pairs);
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

bool DpoObjective::FusesHead(const CausalLM& model) const { return FusesLogprobs(model); }

struct DpoObjective::Answers {
  ModelInput input;
  AnswerTargets host;
  Targets targets;
  at::Tensor weight_T;  // of tokens in the sums; undefined: all 1

  // All that comes from the host, before the device is busy.
  Answers(const Batch& batch, const CausalLM& model, const DpoOptions& options)
      : input(ToModelInput(batch, model)),
        host(MakeAnswerTargets(batch, "a pair")),
        targets(Targets::ToDevice(host.targets_T, model.device())) {
    TORCH_CHECK(input.sequences.num_sequences() == 2 * batch.num_rows,
                "DPO needs two sequences a row");
    if (!options.ld_alpha) return;
    weight_T = LengthWeights(host, input.sequences, *options.ld_alpha).to(model.device());
  }

  at::Tensor Sum(const at::Tensor& logp_T) const {
    const at::Tensor exact_T = logp_T.to(at::kDouble);
    return SumBySequence(weight_T.defined() ? exact_T * weight_T : exact_T, input.sequences);
  }
  at::Tensor ReferenceLogps(CausalLM& reference) const {
    return Sum(DetachedLogprobs(reference, input, targets));
  }
};

at::Tensor DpoObjective::ReferenceLogps(CausalLM& reference, const Batch& batch) const {
  const Answers answers(batch, reference, options_);
  return answers.ReferenceLogps(reference);
}

void DpoObjective::AfterStep(const CausalLM& model, int64_t step) {
  if (options_.sync_steps == 0 || step % options_.sync_steps != 0) return;
  MixInto(reference(), model, options_.mixup_alpha);
}

LossOutput DpoObjective::Forward(CausalLM& model, const Batch& batch, const StepContext& context) {
  const int64_t pairs = batch.num_rows;
  const Answers answers(batch, model, options_);
  const SequenceLayout& sequences = answers.input.sequences;
  const at::Tensor answer_T = answers.targets.targets_T.ne(kIgnoredLabel);
  const at::Tensor counts_S = answers.host.counts_S.to(model.device());

  const at::Tensor reference_S = batch.reference_logp_A.defined()
                                     ? batch.reference_logp_A.to(model.device())
                                     : answers.ReferenceLogps(reference());
  at::Tensor aux_loss;
  const at::Tensor hidden_TD = model.Hidden(answers.input, /*cache=*/nullptr, &aux_loss);
  const TokenLogprobs tokens = ComputeTokenLogprobs(model, hidden_TD, answers.targets, context);
  const auto chosen = [&](const at::Tensor& x_S) { return x_S.slice(0, 0, pairs); };
  const auto rejected = [&](const at::Tensor& x_S) { return x_S.slice(0, pairs); };
  const at::Tensor logp_S = answers.Sum(tokens.logp_T);
  const at::Tensor plain_S = SumBySequence(tokens.logp_T.to(at::kDouble), sequences);

  DpoInput in = {chosen(logp_S),        rejected(logp_S), chosen(reference_S),
                 rejected(reference_S), chosen(counts_S), rejected(counts_S)};
  in.chosen_nll = -chosen(plain_S).sum() * StepMeanScale(context, pairs);
  if (options_.use_weighting) in.weight_P = PairWeights(tokens, answer_T, counts_S, sequences);
  const at::Tensor loss = DpoLoss(in, options_).mean();

  LossOutput out;
  const double num_pairs = static_cast<double>(pairs);
  out.loss = (loss * (num_pairs / static_cast<double>(context.rows))).to(at::kFloat);
  out.num_tokens = batch.num_tokens;
  out.metrics.Add("loss", loss.detach() * num_pairs, num_pairs);
  AddPairMetrics({options_.beta * (in.chosen_logp_P - in.ref_chosen_logp_P),
                  options_.beta * (in.rejected_logp_P - in.ref_rejected_logp_P)},
                 {in.chosen_logp_P, in.rejected_logp_P}, out.metrics);
  AddLogitMetrics(SumBySequence(tokens.mean_logit_T.to(at::kDouble), sequences), counts_S,
                  out.metrics);
  out.metrics.Add("entropy", tokens.entropy_T.sum(), counts_S.sum());
  const at::Tensor top1_S = SumBySequence(tokens.is_top1_T.to(at::kDouble), sequences);
  out.metrics.Add("mean_token_accuracy", chosen(top1_S).sum(), chosen(counts_S).sum());
  AddRouterLoss(aux_loss, model.config(), context, static_cast<double>(context.rows), out);
  return out;
}

}  // namespace liger::trainer
