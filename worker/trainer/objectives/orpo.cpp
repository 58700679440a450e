#include "worker/trainer/objectives/orpo.h"

#include "worker/trainer/objectives/pair_metrics.h"
#include "worker/trainer/objectives/router_loss.h"
#include "worker/trainer/objectives/row_loss.h"

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
// chosen sequences, the answers of both. The weights mark the latter.
RowTargets MakePairTargets(const Batch& batch, const SequenceLayout& sequences, at::Device device) {
  const int64_t chosen_tokens = sequences.offsets_S1[batch.num_rows];
  const AnswerTargets answers = MakeAnswerTargets(batch, "a pair");
  const at::Tensor all_T = NextTokenTargets(batch.input_ids_T, batch.cu_seqlens_S1);
  const at::Tensor targets_T = at::cat({all_T.slice(0, 0, chosen_tokens),  //
                                        answers.targets_T.slice(0, chosen_tokens)});
  const at::Tensor is_answer_T = answers.targets_T.ne(kIgnoredLabel).to(at::kDouble);
  return {{targets_T, answers.counts_S}, is_answer_T, sequences, batch.num_rows, device};
}

// Of some pairs.
struct OrpoTerms {
  PairValues logps;  // means over the answers' tokens
  at::Tensor nll;  // of the chosen sequences, so scaled that the step's mean is that of its tokens
  OddsRatio odds;

  OrpoTerms(const RowTokens& rows, const StepContext& context)
      : logps(PairValues::Of(rows.WeightedSum(rows.logp_C) / rows.counts_QR)),
        nll(-rows.Sum(rows.logp_C).select(0, 0).sum() * StepMeanScale(context, rows.num_rows())),
        odds(ComputeOddsRatio(logps.chosen, logps.rejected)) {}

  // The mean over the pairs.
  at::Tensor Loss(double beta) const { return nll - beta * odds.log_sigmoid_P.mean(); }
};

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

LossOutput OrpoObjective::Forward(CausalLM& model, const Batch& batch, const StepContext& context) {
  const ModelInput input = ToModelInput(batch, model);
  const int64_t pairs = batch.num_rows;
  TORCH_CHECK(input.sequences.num_sequences() == 2 * pairs, "ORPO needs two sequences a row");
  const RowTargets targets = MakePairTargets(batch, input.sequences, model.device());
  at::Tensor aux_loss;
  const at::Tensor hidden_TD = model.Hidden(input, /*cache=*/nullptr, &aux_loss);
  const RowLossOutput head =
      ComputeRowLoss(model, hidden_TD, targets, context, [&](const RowTokens& rows) {
        return OrpoTerms(rows, context).Loss(beta_) * rows.ShareOf(context);
      });

  LossOutput out;
  out.loss = head.loss.to(at::kFloat);
  out.num_tokens = batch.num_tokens;

  const OrpoTerms terms(head.all, context);
  const double num_pairs = static_cast<double>(pairs);
  const auto add_mean = [&](const char* name, const at::Tensor& values_P) {
    out.metrics.Add(name, values_P.sum(), num_pairs);
  };
  out.metrics.Add("loss", terms.Loss(beta_) * num_pairs, num_pairs);
  out.metrics.Add("nll_loss", terms.nll * num_pairs, num_pairs);
  add_mean("log_odds_ratio", terms.odds.log_sigmoid_P);
  add_mean("log_odds_chosen", terms.odds.log_odds_P);
  AddPairMetrics({beta_ * terms.logps.chosen, beta_ * terms.logps.rejected}, terms.logps,
                 out.metrics);
  AddLogitMetrics(head.all.WeightedSum(head.all.mean_logit_C), targets.counts_QR, out.metrics);
  TakeShare(model, out);
  AddRouterLoss(aux_loss, model, context, static_cast<double>(context.rows), out);
  return out;
}

}  // namespace liger::trainer
