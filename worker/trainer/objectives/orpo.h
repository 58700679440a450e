#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_ORPO_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_ORPO_H_

#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

// The odds-ratio term and what is logged of it, all [P], fp64.
struct OddsRatio {
  at::Tensor log_odds_P;     // log odds(chosen) - log odds(rejected)
  at::Tensor log_sigmoid_P;  // log sigmoid of it
};

// From the mean per-token log-probabilities of the answers, both below 0:
//   odds(x) = p / (1 - p), p = exp(logp);  log odds = logp - log(1 - exp(logp)).
// A logp of exactly 0 (an answer predicted with certainty) counts as -1e-12,
// where TRL's gradient becomes NaN.
OddsRatio ComputeOddsRatio(const at::Tensor& chosen_logp_P, const at::Tensor& rejected_logp_P);

// Odds-ratio preference optimisation (Hong et al. 2024, arXiv:2403.07691), as
// TRL 1.16's trl.experimental.orpo; of the four ORPOs in use this is that one:
//   loss = NLL - beta * mean over pairs of log sigmoid(log odds ratio)
// with the NLL averaged over all tokens of the chosen sequences, prompt
// included, and log-probabilities averaged over each answer's tokens.
//
// Both means are a micro-batch's own, and the step's loss is the mean of its
// micro-batches' weighted by their pairs: TRL's, when they hold equally many.
//
// Metrics: loss, nll_loss, log_odds_ratio, log_odds_chosen, rewards/{chosen,
// rejected,accuracies,margins}, logps/{chosen,rejected}, logits/{chosen,
// rejected}. rewards are beta * logps, accuracies a strict >. logits/* average
// over the positions that predict an answer's token; TRL's average over prompts
// and padding too.
class OrpoObjective : public Objective {
 public:
  explicit OrpoObjective(double beta) : beta_(beta) {}
  LossOutput Forward(CausalLM& model, const Batch& batch, const StepContext& context) override;
  RowKind row_kind() const override { return RowKind::kPair; }
  StepCounts Count(const Batch& batch) const override;

 private:
  double beta_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_ORPO_H_
