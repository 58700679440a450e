#ifndef LIGER_WORKER_TRAINER_OPTIM_ADAMW_H_
#define LIGER_WORKER_TRAINER_OPTIM_ADAMW_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "worker/trainer/optim/optimizer.h"

namespace liger::trainer {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;

  static AdamWOptions FromSpec(const liger::v1::TrainingSpec& training);
};

// AdamW with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101),
// the formula of torch.optim.AdamW. For gradient g at step t (from 1):
//
//   p <- p * (1 - lr * weight_decay)
//   m <- m + (1 - beta1) * (g - m);   v <- beta2 * v + (1 - beta2) * g^2
//   p <- p - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
//
// Arithmetic is fp32 whatever the dtypes; results are rounded once, to nearest
// or stochastically (Rounding). One pass over memory reads the gradient (scaled
// for clipping on the way), updates both states and the parameter and writes the
// compute copy, on a GPU in one launch for all parameters (kernels/adamw). On
// devices without a kernel: ATen's ops.
class AdamW : public Optimizer {
 public:
  // `parameters` must outlive this. States start at zero, allocated at the
  // first step (or by LoadStateDict). `seed` draws the stochastic rounding,
  // from counters: equal seeds give equal bits with any number of threads.
  AdamW(TrainableParameters& parameters, const AdamWOptions& options,
        const PrecisionPlan& precision, uint64_t seed);

  using Optimizer::Step;
  void Step(const std::vector<at::Tensor>& grads, double learning_rate,
            const at::Tensor& grad_scale) override;
  // States "exp_avg" and "exp_avg_sq".
  std::map<std::string, at::Tensor> StateDict() const override;
  void LoadStateDict(const std::map<std::string, at::Tensor>& state) override;
  int64_t StateBytes() const override;

  int64_t step_count() const { return step_count_; }

 private:
  void AllocateStates();

  TrainableParameters& parameters_;
  AdamWOptions options_;
  at::ScalarType state_dtype_;
  Rounding rounding_;
  uint64_t seed_;
  int64_t step_count_ = 0;
  std::vector<at::Tensor> exp_avg_;
  std::vector<at::Tensor> exp_avg_sq_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_ADAMW_H_
