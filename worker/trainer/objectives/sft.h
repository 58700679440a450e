#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_SFT_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_SFT_H_

#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

struct SftOptions {
  double label_smoothing = 0;      // share of the target spread over the vocabulary
  double z_loss_weight = 0;        // of the squared logsumexp
  double neftune_noise_alpha = 0;  // see NeftuneNoise

  static SftOptions FromSpec(const liger::v1::SftMethod& spec);
};

// Supervised fine-tuning: the mean negative log-likelihood of the labelled
// tokens,
//   loss = -1/n sum_t log p(label_t | tokens before t),
// n counting the labels of all micro-batches and ranks of the step (TRL's
// SFTTrainer with average_tokens_across_devices, loss_type nll). With options:
//   loss = 1/n sum_t ((1 - e) -log p(label_t) + e mean_v -log p(v) + w lse_t^2)
// e is transformers' label_smoothing_factor (LabelSmoother), w PaLM's z-loss
// (Chowdhery et al. 2022, arXiv:2204.02311, sec. 5), lse_t the logsumexp of the
// logits. NEFTune's noise is on the embeddings while gradients are on.
//
// Metrics: loss, entropy (nats) and mean_token_accuracy, means over labelled
// tokens.
class SftObjective : public Objective {
 public:
  explicit SftObjective(const SftOptions& options = {}) : options_(options) {}

  LossOutput Forward(CausalLM& model, const Batch& batch, const StepContext& context) override;
  bool FusesHead(const CausalLM& model) const override;
  StepCounts Count(const Batch& batch) const override;

 private:
  const SftOptions options_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_SFT_H_
