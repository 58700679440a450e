#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_DPO_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_DPO_H_

#include "worker/trainer/objectives/dpo_loss.h"
#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

// Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290) and its
// relatives, as TRL 1.16's DPOTrainer: of each pair the log-probabilities of both
// answers, summed over their tokens, under the model and under a frozen reference;
// the loss types are in dpo_loss.h. The step's loss is the mean over pairs.
//
// Metrics (TRL's): loss, entropy, mean_token_accuracy (of the chosen answers),
// rewards/{chosen,rejected,accuracies,margins}, logps/{chosen,rejected},
// logits/{chosen,rejected}.
class DpoObjective : public Objective {
 public:
  explicit DpoObjective(DpoOptions options) : options_(std::move(options)) {}

  LossOutput Forward(CausalLM& model, const Batch& batch, const StepContext& context) override;
  RowKind row_kind() const override { return RowKind::kPair; }
  StepCounts Count(const Batch& batch) const override;
  bool NeedsReference() const override { return true; }
  bool PrecomputesReference() const override { return options_.precompute_reference; }
  at::Tensor ReferenceLogps(CausalLM& reference, const Batch& batch) const override;
  CausalLM* MovingReference() const override {
    return options_.sync_steps > 0 ? &reference() : nullptr;
  }
  void AfterStep(const CausalLM& model, int64_t step) override;

 private:
  struct Answers;

  const DpoOptions options_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_DPO_H_
