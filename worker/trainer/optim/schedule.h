#ifndef LIGER_WORKER_TRAINER_OPTIM_SCHEDULE_H_
#define LIGER_WORKER_TRAINER_OPTIM_SCHEDULE_H_

#include <cstdint>
#include <string>

#include "liger/v1/job_spec.pb.h"

namespace liger::trainer {

// A learning-rate schedule: what transformers' get_scheduler gives for the same
// name and lr_scheduler_kwargs. All warm up linearly from 0 over W steps
// (constant does not, warmup_stable_decay by its warmup_type from its least
// share), and then, for optimizer step t of T (t counted from 0), with
// p = (t - W) / max(1, T - W), give this share of the learning rate:
//
//   constant, constant_with_warmup   1
//   linear                           max(0, 1 - p)
//   cosine                           c = max(0, (1 + cos(2 pi num_cycles p)) / 2)
//   cosine_with_min_lr               m + (1 - m) c, m = min_lr_rate
//   polynomial                       e + (1 - e) (1 - p)^power, e = lr_end / lr
//   inverse_sqrt                     1 / sqrt(1 + (t - W) / timescale)
//   warmup_stable_decay              1 over num_stable_steps, then by decay_type
//                                    to min_lr_ratio over num_decay_steps, then that
class LrSchedule {
 public:
  // `type` is training.lr_scheduler_type. Throws TrainerError (CONFIG) when it
  // names no schedule.
  LrSchedule(const std::string& type, double learning_rate, int64_t warmup_steps,
             int64_t total_steps, const liger::v1::LrSchedulerKwargs& kwargs = {});

  // From a job's training section: warmup_steps, or ceil(share * T) where they
  // are below 1 or warmup_ratio is given.
  static LrSchedule FromSpec(const liger::v1::TrainingSpec& training, int64_t total_steps);

  // Learning rate of optimizer step t, counted from 0.
  double LearningRate(int64_t step) const;

  int64_t warmup_steps() const { return warmup_steps_; }

 private:
  enum class Shape {
    kConstant,
    kConstantWithWarmup,
    kLinear,
    kCosine,
    kCosineWithMinLr,
    kPolynomial,
    kInverseSqrt,
    kWarmupStableDecay
  };
  static Shape ParseShape(const std::string& type);
  double Factor(int64_t step) const;
  double Cosine(double progress) const;
  double WarmupStableDecay(int64_t step) const;

  Shape shape_;
  double learning_rate_;
  int64_t warmup_steps_;
  int64_t total_steps_;
  liger::v1::LrSchedulerKwargs kwargs_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_SCHEDULE_H_
