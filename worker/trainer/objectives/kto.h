#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_KTO_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_KTO_H_

#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

struct KtoOptions {
  double beta = 0.1;
  double desirable_weight = 1, undesirable_weight = 1;
  bool estimate_kl = true;  // kto; false: apo_zero_unpaired
  bool precompute_reference = false;

  static KtoOptions FromSpec(const liger::v1::KtoMethod& spec);
};

// Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv:2402.01306, eq. 7)
// and the unpaired APO-zero (D'Oosterlinck et al. 2024, arXiv:2408.06266), as TRL
// 1.16's KTOTrainer. With r = sum over the answer of log pi - log pi_ref:
//   desirable rows     1 - sigmoid(beta (r - kl))
//   undesirable rows   1 - sigmoid(beta (kl - r))
// times the class weight, averaged over all rows; kl is the mean of r over the
// micro-batch's mismatched prompts and answers of all ranks, at least 0 and without
// gradient (0 in apo_zero_unpaired). Unlike TRL, which pairs neighbours of the unshuffled
// file, the mismatched answers are those of the micro-batch itself.
//
// Metrics (TRL's): loss, kl, entropy, rewards/{chosen,rejected,margins},
// logps/{chosen,rejected}, logits/{chosen,rejected}; those of a class that no row
// belongs to are absent.
class KtoObjective : public Objective {
 public:
  explicit KtoObjective(const KtoOptions& options) : options_(options) {}

  LossOutput Forward(CausalLM& model, const Batch& batch, const StepContext& context) override;
  void ForwardNothing(CausalLM& model, const StepContext& context) override;
  RowKind row_kind() const override { return RowKind::kLabelled; }
  StepCounts Count(const Batch& batch) const override;
  bool NeedsReference() const override { return true; }
  bool PrecomputesReference() const override { return options_.precompute_reference; }
  bool ComparesMismatched() const override { return options_.estimate_kl; }
  at::Tensor ReferenceLogps(CausalLM& reference, const Batch& batch) const override;

 private:
  const KtoOptions options_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_KTO_H_
