#include "worker/trainer/objectives/dpo.h"

#include <ATen/ATen.h>

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

}  // namespace

StepCounts DpoObjective::Count(const Batch& batch) const {
  return {batch.num_target_tokens, batch.num_rows};
}

bool DpoObjective::FusesHead(const CausalLM& model) const { return FusesLogprobs(model); }

LossOutput DpoObjective::Forward(CausalLM& model, const Batch& batch, const StepContext& context) {
  const at::Device device = model.device();
  const ModelInput input = ToModelInput(batch, model);
  const SequenceLayout& sequences = input.sequences;
  const int64_t pairs = batch.num_rows;
  TORCH_CHECK(sequences.num_sequences() == 2 * pairs, "DPO needs two sequences a row");
  const AnswerTargets answers = MakeAnswerTargets(batch, "a pair");
  const at::Tensor targets_T = answers.targets_T.to(device);
  const at::Tensor answer_T = targets_T.ne(kIgnoredLabel);
  const at::Tensor counts_S = answers.counts_S.to(device);

  // All that comes from the host before the device is busy.
  const at::Tensor weight_T = options_.ld_alpha
                                  ? LengthWeights(answers, sequences, *options_.ld_alpha).to(device)
                                  : at::Tensor();

  const at::Tensor reference_logp_T = DetachedLogprobs(reference(), input, targets_T);
  at::Tensor aux_loss;
  const at::Tensor hidden_TD = model.Hidden(input, /*cache=*/nullptr, &aux_loss);
  const TokenLogprobs tokens = ComputeTokenLogprobs(model, hidden_TD, targets_T, context);
  const auto sums_S = [&](const at::Tensor& logp_T) {
    const at::Tensor exact_T = logp_T.to(at::kDouble);
    return SumBySequence(weight_T.defined() ? exact_T * weight_T : exact_T, sequences);
  };
  const auto chosen = [&](const at::Tensor& x_S) { return x_S.slice(0, 0, pairs); };
  const auto rejected = [&](const at::Tensor& x_S) { return x_S.slice(0, pairs); };
  const at::Tensor logp_S = sums_S(tokens.logp_T), reference_S = sums_S(reference_logp_T);
  const at::Tensor plain_S = SumBySequence(tokens.logp_T.to(at::kDouble), sequences);

  DpoInput in = {chosen(logp_S),        rejected(logp_S), chosen(reference_S),
                 rejected(reference_S), chosen(counts_S), rejected(counts_S)};
  in.chosen_nll = -chosen(plain_S).sum() / chosen(counts_S).sum();
  if (options_.use_weighting) in.weight_P = PairWeights(tokens, answer_T, counts_S, sequences);
  const at::Tensor loss = DpoLoss(in, options_).mean();

  LossOutput out;
  const double num_pairs = static_cast<double>(pairs);
  out.loss = (loss * (num_pairs / static_cast<double>(context.rows))).to(at::kFloat);
  out.num_tokens = batch.num_tokens;
  out.metrics.Add("loss", loss.detach() * num_pairs, num_pairs);
  const at::Tensor chosen_reward_P =
      options_.beta * (in.chosen_logp_P - in.ref_chosen_logp_P).detach();
  const at::Tensor rejected_reward_P =
      options_.beta * (in.rejected_logp_P - in.ref_rejected_logp_P).detach();
  const auto add_mean = [&](const char* name, const at::Tensor& values_P) {
    out.metrics.Add(name, values_P.detach().sum(), num_pairs);
  };
  add_mean("rewards/chosen", chosen_reward_P);
  add_mean("rewards/rejected", rejected_reward_P);
  add_mean("rewards/accuracies", chosen_reward_P.gt(rejected_reward_P));
  add_mean("rewards/margins", chosen_reward_P - rejected_reward_P);
  add_mean("logps/chosen", in.chosen_logp_P);
  add_mean("logps/rejected", in.rejected_logp_P);
  const at::Tensor logits_S = SumBySequence(tokens.mean_logit_T.to(at::kDouble), sequences);
  out.metrics.Add("logits/chosen", chosen(logits_S).sum(), chosen(counts_S).sum());
  out.metrics.Add("logits/rejected", rejected(logits_S).sum(), rejected(counts_S).sum());
  out.metrics.Add("entropy", tokens.entropy_T.sum(), counts_S.sum());
  const at::Tensor top1_S = SumBySequence(tokens.is_top1_T.to(at::kDouble), sequences);
  out.metrics.Add("mean_token_accuracy", chosen(top1_S).sum(), chosen(counts_S).sum());
  AddRouterLoss(aux_loss, model.config(), context, static_cast<double>(context.rows), out);
  return out;
}

}  // namespace liger::trainer
