#include "worker/trainer/objectives/cpo.h"

#include <ATen/ATen.h>

#include "worker/trainer/error.h"
#include "worker/trainer/objectives/pair_metrics.h"
#include "worker/trainer/objectives/router_loss.h"
#include "worker/trainer/objectives/row_loss.h"

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

// Of some pairs.
struct CpoTerms {
  PairValues logps;
  at::Tensor nll;   // of the chosen answers, so scaled that the step's mean is that of its tokens
  at::Tensor loss;  // mean over the pairs

  CpoTerms(const RowTokens& rows, const CpoOptions& options, const StepContext& context) {
    const at::Tensor sums_QP = rows.Sum(rows.logp_C);
    logps = PairValues::Of(AveragesTokens(options.loss_type) ? sums_QP / rows.counts_QR : sums_QP);
    nll = at::zeros({}, sums_QP.options().requires_grad(false));
    if (options.cpo_alpha != 0) {
      nll = -sums_QP.select(0, 0).sum() * StepMeanScale(context, rows.num_rows());
    }
    loss = PairLoss(logps.chosen - logps.rejected, options).mean() + options.cpo_alpha * nll;
  }
};

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

LossOutput CpoObjective::Forward(CausalLM& model, const Batch& batch, const StepContext& context) {
  const ModelInput input = ToModelInput(batch, model);
  const int64_t pairs = batch.num_rows;
  TORCH_CHECK(input.sequences.num_sequences() == 2 * pairs, "CPO needs two sequences a row");
  const AnswerTargets answers = MakeAnswerTargets(batch, "a pair");
  const RowTargets targets(answers, {}, input.sequences, pairs, model.device());
  at::Tensor aux_loss;
  const at::Tensor hidden_TD = model.Hidden(input, /*cache=*/nullptr, &aux_loss);
  const RowLossOutput head =
      ComputeRowLoss(model, hidden_TD, targets, context, [&](const RowTokens& rows) {
        return CpoTerms(rows, options_, context).loss * rows.ShareOf(context);
      });

  LossOutput out;
  out.loss = head.loss.to(at::kFloat);
  out.num_tokens = batch.num_tokens;
  const CpoTerms terms(head.all, options_, context);
  const double num_pairs = static_cast<double>(pairs);
  out.metrics.Add("loss", terms.loss * num_pairs, num_pairs);
  out.metrics.Add("nll_loss", terms.nll * num_pairs, num_pairs);
  AddPairMetrics({options_.beta * terms.logps.chosen, options_.beta * terms.logps.rejected},
                 terms.logps, out.metrics);
  AddLogitMetrics(head.all.Sum(head.all.mean_logit_C), targets.counts_QR, out.metrics);
  TakeShare(model, out);
  AddRouterLoss(aux_loss, model, context, static_cast<double>(context.rows), out);
  return out;
}

}  // namespace liger::trainer
