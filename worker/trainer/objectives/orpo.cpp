#include "worker/trainer/objectives/orpo.h"

#include "worker/trainer/objectives/pair_metrics.h"
#include "worker/trainer/objectives/router_loss.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

// log(1 - exp(x)) for x < 0, by the branch that does not cancel (Maechler 2012,
// "Accurately computing log(1 - exp(-|a|))"). Each branch sees only arguments
// that are safe for it: where() alone would let the other's NaN gradient through.
at::Tensor Log1mExp(const at::Tensor& x_P) {
  constexpr double kMinusLog2 = -0.6931471805599453;
  const at::Tensor is_small_P = x_P < kMinusLog2;
  const at::Tensor small_P = at::where(is_small_P, x_P, 2 * kMinusLog2);
  const at::Tensor large_P = at::where(is_small_P, kMinusLog2, x_P);
  return at::where(is_small_P, at::log1p(-small_P.exp()), (-large_P.expm1()).log());
}

at::Tensor LogOdds(const at::Tensor& logp_P) {
  const at::Tensor below_one_P = logp_P.to(at::kDouble).clamp_max(-1e-12);
  return below_one_P - Log1mExp(below_one_P);
}

// What to predict of a batch of pairs: everything after the first token of the
// chosen sequences, the answers of both. `answer_T` marks the latter.
struct PairTargets {
  at::Tensor targets_T;
  at::Tensor answer_T;         // bool
  at::Tensor answer_counts_S;  // fp64
  int64_t chosen_tokens;       // tokens of the chosen sequences; they come first
};

// On the host, so that counting waits for no device.
PairTargets MakePairTargets(const Batch& batch, const SequenceLayout& sequences) {
  const int64_t pairs = batch.num_rows;
  PairTargets out;
  out.chosen_tokens = sequences.offsets_S1[pairs];
  const AnswerTargets answers = MakeAnswerTargets(batch, "a pair");
  const at::Tensor all_T = NextTokenTargets(batch.input_ids_T, batch.cu_seqlens_S1);
  out.targets_T = at::cat({all_T.slice(0, 0, out.chosen_tokens),  //
                           answers.targets_T.slice(0, out.chosen_tokens)});
  out.answer_T = answers.targets_T.ne(kIgnoredLabel);
  out.answer_counts_S = answers.counts_S;
  return out;
}

}  // namespace

OddsRatio ComputeOddsRatio(const at::Tensor& chosen_logp_P, const at::Tensor& rejected_logp_P) {
  const at::Tensor log_odds_P = LogOdds(chosen_logp_P) - LogOdds(rejected_logp_P);
  return {log_odds_P, at::log_sigmoid(log_odds_P)};
}

StepCounts OrpoObjective::Count(const Batch& batch) const {
  // The NLL's: all of the chosen sequences' tokens but the first of each.
  const int64_t chosen_tokens = batch.cu_seqlens_S1[batch.num_rows].item<int64_t>();
  return {chosen_tokens - batch.num_rows, batch.num_rows};
}

bool OrpoObjective::FusesHead(const CausalLM& model) const { return FusesLogprobs(model); }

LossOutput OrpoObjective::Forward(CausalLM& model, const Batch& batch, const StepContext& context) {
  const at::Device device = model.device();
  const ModelInput input = ToModelInput(batch, model);
  const int64_t pairs = batch.num_rows;
  TORCH_CHECK(input.sequences.num_sequences() == 2 * pairs, "ORPO needs two sequences a row");
  const PairTargets targets = MakePairTargets(batch, input.sequences);
  at::Tensor aux_loss;
  const at::Tensor hidden_TD = model.Hidden(input, /*cache=*/nullptr, &aux_loss);

  const Targets on_device = Targets::ToDevice(targets.targets_T, device);
  const TokenLogprobs tokens = ComputeTokenLogprobs(model, hidden_TD, on_device, context);
  const at::Tensor answer_T = targets.answer_T.to(device);
  const at::Tensor logp_T = tokens.logp_T.to(at::kDouble);
  const at::Tensor answer_counts_S = targets.answer_counts_S.to(device);
  const at::Tensor mean_logp_S =
      SumBySequence(logp_T * answer_T, input.sequences) / answer_counts_S;
  const at::Tensor chosen_logp_P = mean_logp_S.slice(0, 0, pairs);
  const at::Tensor rejected_logp_P = mean_logp_S.slice(0, pairs);

  const at::Tensor nll =
      -logp_T.slice(0, 0, targets.chosen_tokens).sum() * StepMeanScale(context, pairs);
  const OddsRatio odds = ComputeOddsRatio(chosen_logp_P, rejected_logp_P);
  const at::Tensor loss = nll - beta_ * odds.log_sigmoid_P.mean();

  LossOutput out;
  const double num_pairs = static_cast<double>(pairs);
  out.loss = (loss * (num_pairs / static_cast<double>(context.rows))).to(at::kFloat);
  out.num_tokens = batch.num_tokens;

  const auto add_mean = [&](const char* name, const at::Tensor& values_P) {
    out.metrics.Add(name, values_P.detach().sum(), num_pairs);
  };
  out.metrics.Add("loss", loss.detach() * num_pairs, num_pairs);
  out.metrics.Add("nll_loss", nll.detach() * num_pairs, num_pairs);
  add_mean("log_odds_ratio", odds.log_sigmoid_P);
  add_mean("log_odds_chosen", odds.log_odds_P);
  AddPairMetrics({beta_ * chosen_logp_P, beta_ * rejected_logp_P}, {chosen_logp_P, rejected_logp_P},
                 out.metrics);
  AddLogitMetrics(SumBySequence(tokens.mean_logit_T.to(at::kDouble) * answer_T, input.sequences),
                  answer_counts_S, out.metrics);
  AddRouterLoss(aux_loss, model.config(), context, static_cast<double>(context.rows), out);
  return out;
}

}  // namespace liger::trainer
