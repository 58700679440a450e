#ifndef LIGER_WORKER_TRAINER_OPTIM_ADAFACTOR_H_
#define LIGER_WORKER_TRAINER_OPTIM_ADAFACTOR_H_

#include "worker/trainer/optim/aten_optimizer.h"

namespace liger::trainer {

// Adafactor (Shazeer and Stern 2018, arXiv:1804.04235) as transformers' Trainer
// sets its own up: scale_parameter and relative_step off, so that the learning
// rate is the job's; no first moment; clip_threshold 1, decay_rate -0.8, eps
// 1e-30. For gradient g [..., R, C] at step t (from 1), with b = 1 - t^-0.8:
//
//   r <- b * r + (1 - b) * mean over C of (g^2 + eps);   c likewise over R
//   u = g / sqrt(r * c / mean(r));                       p <- p - lr * weight_decay * p
//   p <- p - lr * u / max(1, rms(u))
//
// Vectors keep the whole mean of squares. States "exp_avg_sq_row" [..., R] and
// "exp_avg_sq_col" [..., C], or "exp_avg_sq": R + C numbers for R * C, so they
// are fp32 in every precision.
//
// Where ranks have parts of a matrix they sum, once a step for all parameters, their squares by row
// and column, and then those of u: 8 (R + C) bytes a matrix and 8 more. Means over whole rows,
// columns and matrices are those of one device then, whatever the number of ranks; every rank has
// the states of rows and columns whole, and makes u twice.
class Adafactor : public AtenOptimizer {
 public:
  Adafactor(TrainableParameters& parameters, double weight_decay, const PrecisionPlan& precision,
            uint64_t seed)
      : AtenOptimizer(parameters, precision, seed), weight_decay_(weight_decay) {}

 protected:
  void PrepareUpdates(const std::vector<at::Tensor>& grads, double scale) override;
  States MakeStates(const Entry& entry, at::Device device) const override;
  void Update(const Entry& entry, at::Tensor param, const at::Tensor& grad, double learning_rate,
              States& states) override;

 private:
  // Brings the states to this step.
  void UpdateStates(const std::vector<at::Tensor>& grads, double scale);

  double weight_decay_;
  at::Tensor rms_;  // by entry, of u where ranks have parts
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_ADAFACTOR_H_
