#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_SFT_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_SFT_H_

#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

// Supervised fine-tuning: the mean negative log-likelihood of the labelled
// tokens,
//   loss = -1/n sum_t log p(label_t | tokens before t),
// n counting the labels of all micro-batches and ranks of the step (TRL's
// SFTTrainer with average_tokens_across_devices, loss_type nll).
//
// Metrics: loss, entropy (nats) and mean_token_accuracy, means over labelled
// tokens.
class SftObjective : public Objective {
 public:
  LossOutput Forward(CausalLM& model, const Batch& batch, const StepContext& context) override;
  bool FusesHead(const CausalLM& model) const override;
  StepCounts Count(const Batch& batch) const override;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_SFT_H_
