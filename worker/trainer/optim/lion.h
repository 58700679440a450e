#ifndef LIGER_WORKER_TRAINER_OPTIM_LION_H_
#define LIGER_WORKER_TRAINER_OPTIM_LION_H_

#include "worker/trainer/optim/adamw.h"
#include "worker/trainer/optim/aten_optimizer.h"

namespace liger::trainer {

// Lion (Chen et al. 2023, arXiv:2302.06675, algorithm 2):
//
//   p <- p * (1 - lr * weight_decay) - lr * sign(beta1 * m + (1 - beta1) * g)
//   m <- beta2 * m + (1 - beta2) * g
//
// State "exp_avg". Options as AdamW's; epsilon has no use.
class Lion : public AtenOptimizer {
 public:
  Lion(TrainableParameters& parameters, const AdamWOptions& options, const PrecisionPlan& precision,
       uint64_t seed)
      : AtenOptimizer(parameters, precision, seed), options_(options) {}

 protected:
  States MakeStates(const Entry& entry, at::Device device) const override;
  void UpdateMany(Many& many, double learning_rate) override;

 private:
  AdamWOptions options_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_LION_H_
