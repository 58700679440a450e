#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_CPO_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_CPO_H_

#include <string>

#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

struct CpoOptions {
  double beta = 0.1;
  std::string loss_type = "sigmoid";
  double label_smoothing = 0;  // of sigmoid and simpo
  double cpo_alpha = 1;        // of the chosen answers' NLL
  double simpo_gamma = 0.5;

  // Throws ConfigError for an unknown loss type.
  static CpoOptions FromSpec(const liger::v1::CpoMethod& spec);
};

// Contrastive preference optimisation (Xu et al. 2024, arXiv:2401.08417), and
// SimPO (Meng et al. 2024, arXiv:2405.14734), as TRL 1.16's trl.experimental.cpo.
// No reference. With d = logp(chosen) - logp(rejected), of ipo and simpo a token's
// mean and else sums over the answers, and s = log sigmoid:
//   sigmoid   -(1 - e) s(beta d) - e s(-beta d),  e = label_smoothing
//   hinge     max(0, 1 - beta d)
//   ipo       (d - 1 / (2 beta))^2
//   simpo     sigmoid's with beta d - simpo_gamma in the place of beta d
// The step's loss is the mean over pairs plus cpo_alpha times the mean NLL of the
// micro-batch's chosen answers' tokens.
//
// Metrics (TRL's): loss, nll_loss, rewards/{chosen,rejected,accuracies,margins},
// logps/{chosen,rejected}, logits/{chosen,rejected}; the latter average over the
// positions that predict an answer's token, TRL's over prompts and padding too.
class CpoObjective : public Objective {
 public:
  explicit CpoObjective(CpoOptions options) : options_(std::move(options)) {}

  LossOutput Forward(CausalLM& model, const Batch& batch, const StepContext& context) override;
  RowKind row_kind() const override { return RowKind::kPair; }
  StepCounts Count(const Batch& batch) const override;

 private:
  const CpoOptions options_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_CPO_H_
