#include "worker/trainer/objectives/dpo.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/trainer/objectives/grouped_loss.h"
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
at::Tensor PairWeights(const LossTokens& tokens, const at::Tensor& counts_S) {
  const at::Tensor aligned_C =
      tokens.tokens.logp_T.detach().to(at::kDouble) - tokens.tokens.log_sum_sq_T;
  const at::Tensor weights_S = (tokens.Sum(aligned_C) / counts_S).exp();
  const int64_t pairs = tokens.num_sequences / 2;
  return weights_S.slice(0, 0, pairs) * weights_S.slice(0, pairs);
}

// Whether the loss is a sum over pairs, each for itself; aot and aot_unpaired sort over the batch.
bool IsSumOverPairs(const DpoOptions& options) {
  return std::ranges::none_of(options.loss_types,
                              [](const std::string& type) { return type.starts_with("aot"); });
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
  at::Tensor Sum(const LossTokens& t) const {
    const at::Tensor exact_C = t.tokens.logp_T.to(at::kDouble);
    return t.Sum(weight_T.defined() ? exact_C * weight_T.index_select(0, t.rows_C) : exact_C);
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
  const at::Tensor counts_S = answers.host.counts_S.to(model.device());

  const at::Tensor reference_S = batch.reference_logp_A.defined()
                                     ? batch.reference_logp_A.to(model.device())
                                     : answers.ReferenceLogps(reference());
  at::Tensor aux_loss;
  const at::Tensor hidden_TD = model.Hidden(answers.input, /*cache=*/nullptr, &aux_loss);
  const SequenceGroups groups{sequences, IsSumOverPairs(options_) ? pairs : 1};
  const auto loss_of = [&](const LossTokens& t) {
    const int64_t n = t.num_sequences / 2, first = t.begin;  // of pairs
    const auto chosen = [&](const at::Tensor& x_S) { return x_S.slice(0, first, first + n); };
    const auto rejected = [&](const at::Tensor& x_S) { return chosen(x_S.slice(0, pairs)); };
    const at::Tensor plain_S = t.Sum(t.tokens.logp_T), logp_S = answers.Sum(t);
    DpoInput in = {logp_S.slice(0, 0, n), logp_S.slice(0, n),  chosen(reference_S),
                   rejected(reference_S), chosen(counts_S), rejected(counts_S)};
    // DpoLoss adds it to each of these pairs.
    in.chosen_nll = -plain_S.slice(0, 0, n).sum() *
                    (StepMeanScale(context, pairs) * static_cast<double>(pairs) /
                     static_cast<double>(n));
    if (options_.use_weighting) {
      in.weight_P = PairWeights(t, at::cat({chosen(counts_S), rejected(counts_S)}));
    }
    return DpoLoss(in, options_).sum() / static_cast<double>(context.rows);
  };
  const auto [loss, tokens] =
      ComputeGroupedLoss(model, hidden_TD, answers.host.targets_T, groups, context, loss_of);
  const auto chosen = [&](const at::Tensor& x_S) { return x_S.slice(0, 0, pairs); };
  const auto rejected = [&](const at::Tensor& x_S) { return x_S.slice(0, pairs); };
  const at::Tensor logp_S = answers.Sum(tokens.logp_T);
  const at::Tensor ratio_S = logp_S - reference_S;

  LossOutput out;
  const double num_pairs = static_cast<double>(pairs);
  out.loss = loss;
  out.num_tokens = batch.num_tokens;
  out.metrics.Add("loss", loss.detach().to(at::kDouble) * static_cast<double>(context.rows),
                  num_pairs);
  AddPairMetrics({options_.beta * chosen(ratio_S), options_.beta * rejected(ratio_S)},
                 {chosen(logp_S), rejected(logp_S)}, out.metrics);
  AddLogitMetrics(SumBySequence(tokens.mean_logit_T.to(at::kDouble), sequences), counts_S,
                  out.metrics);
  out.metrics.Add("entropy", tokens.entropy_T.sum(), counts_S.sum());
  const at::Tensor top1_S = SumBySequence(tokens.is_top1_T.to(at::kDouble), sequences);
  out.metrics.Add("mean_token_accuracy", chosen(top1_S).sum(), chosen(counts_S).sum());
  AddRouterLoss(aux_loss, model.config(), context, static_cast<double>(context.rows), out);
  return out;
}

}  // namespace liger::trainer
