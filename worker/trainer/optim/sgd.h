#ifndef LIGER_WORKER_TRAINER_OPTIM_SGD_H_
#define LIGER_WORKER_TRAINER_OPTIM_SGD_H_

#include "worker/trainer/optim/aten_optimizer.h"

namespace liger::trainer {

struct SgdOptions {
  double momentum = 0;
  double weight_decay = 0;
};

// torch.optim.SGD without dampening, whose weight decay is part of the gradient:
//
//   g <- g + weight_decay * p;   b <- momentum * b + g;   p <- p - lr * b
//
// State "momentum_buffer"; none without momentum.
class Sgd : public AtenOptimizer {
 public:
  Sgd(TrainableParameters& parameters, const SgdOptions& options, const PrecisionPlan& precision,
      uint64_t seed)
      : AtenOptimizer(parameters, precision, seed), options_(options) {}

 protected:
  States MakeStates(const Entry& entry, at::Device device) const override;
  void UpdateMany(Many& many, double learning_rate) override;

 private:
  SgdOptions options_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_SGD_H_
