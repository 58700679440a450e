#include "worker/trainer/objectives/cpo.h"

#include <ATen/ATen.h>

#include "worker/trainer/error.h"
#include "worker/trainer/objectives/pair_metrics.h"
#include "worker/trainer/objectives/router_loss.h"
#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {
namespace {

bool AveragesTokens(const std::string& loss_type) {
  return loss_type == "ipo" || loss_type == "simpo";
}

// One value a pair, [P], of the difference d of the answers' log-probabilities.
at::Tensor PairLoss(const at::Tensor& d_P, const CpoOptions& o) {
  if (o.loss_type == "hinge") return (1 - o.beta * d_P).clamp_min(0);
  if (o.loss_type == "ipo") return (d_P - 1 / (2 * o.beta)).square();
  const at::Tensor margin_P = o.beta * d_P - (o.loss_type == "simpo" ? o.simpo_gamma : 0.0);
  return -(1 - o.label_smoothing) * at::log_sigmoid(margin_P) -
         o.label_smoothing * at::log_sigmoid(-margin_P);
}

}  // namespace

CpoOptions CpoOptions::FromSpec(const liger::v1::CpoMethod& spec) {
  CpoOptions options;
  if (spec.has_beta()) options.beta = spec.beta();
  if (!spec.loss_type().empty()) options.loss_type = spec.loss_type();
  for (const char* known : {"sigmoid", "hinge", "ipo", "simpo"}) {
    if (options.loss_type != known) continue;
    options.label_smoothing = spec.label_smoothing();
    if (spec.has_cpo_alpha()) options.cpo_alpha = spec.cpo_alpha();
    if (spec.has_simpo_gamma()) options.simpo_gamma = spec.simpo_gamma();
    return options;
  }
  throw ConfigError("cpo.loss_type '" + options.loss_type + "' is unknown",
                    "Use sigmoid, hinge, ipo or simpo.")
      .Field("cpo.loss_type");
}

StepCounts CpoObjective::Count(const Batch& batch) const {
  return {CountChosenTargets(batch), batch.num_rows};
}

bool CpoObjective::FusesHead(const CausalLM& model) const { return FusesLogprobs(model); }

LossOutput CpoObjective::Forward(CausalLM& model, const Batch& batch, const StepContext& context) {
  const ModelInput input = ToModelInput(batch, model);
  const int64_t pairs = batch.num_rows;
  TORCH_CHECK(input.sequences.num_sequences() == 2 * pairs, "CPO needs two sequences a row");
  const AnswerTargets answers = MakeAnswerTargets(batch, "a pair");
  const Targets targets = Targets::ToDevice(answers.targets_T, model.device());
  const at::Tensor counts_S = answers.counts_S.to(model.device());
  at::Tensor aux_loss;
  const at::Tensor hidden_TD = model.Hidden(input, /*cache=*/nullptr, &aux_loss);
  const TokenLogprobs tokens = ComputeTokenLogprobs(model, hidden_TD, targets, context);

  const at::Tensor sums_S = SumBySequence(tokens.logp_T.to(at::kDouble), input.sequences);
  const at::Tensor logp_S = AveragesTokens(options_.loss_type) ? sums_S / counts_S : sums_S;
  const PairValues logps = {logp_S.slice(0, 0, pairs), logp_S.slice(0, pairs)};
  at::Tensor nll = at::zeros({}, sums_S.options().requires_grad(false));
  if (options_.cpo_alpha != 0) {
    nll = -sums_S.slice(0, 0, pairs).sum() * StepMeanScale(context, pairs);
  }
  const at::Tensor loss =
      PairLoss(logps.chosen - logps.rejected, options_).mean() + options_.cpo_alpha * nll;

  LossOutput out;
  const double num_pairs = static_cast<double>(pairs);
  out.loss = (loss * (num_pairs / static_cast<double>(context.rows))).to(at::kFloat);
  out.num_tokens = batch.num_tokens;
  out.metrics.Add("loss", loss.detach() * num_pairs, num_pairs);
  out.metrics.Add("nll_loss", nll.detach() * num_pairs, num_pairs);
  AddPairMetrics({options_.beta * logps.chosen, options_.beta * logps.rejected}, logps,
                 out.metrics);
  AddLogitMetrics(SumBySequence(tokens.mean_logit_T.to(at::kDouble), input.sequences), counts_S,
                  out.metrics);
  AddRouterLoss(aux_loss, model.config(), context, static_cast<double>(context.rows), out);
  return out;
}

}  // namespace liger::trainer
