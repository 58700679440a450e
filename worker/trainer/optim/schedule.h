#ifndef LIGER_WORKER_TRAINER_OPTIM_SCHEDULE_H_
#define LIGER_WORKER_TRAINER_OPTIM_SCHEDULE_H_

#include <cstdint>
#include <string>

#include "liger/v1/job_spec.pb.h"

namespace liger::trainer {

// A learning-rate schedule: what transformers' get_scheduler gives for the
// same name. All four warm up linearly from 0 over W steps (constant does
// not), and then, for optimizer step t of T (t counted from 0):
//
//   constant, constant_with_warmup   1
//   linear                           max(0, (T - t) / max(1, T - W))
//   cosine                           (1 + cos(pi * (t - W) / max(1, T - W))) / 2
class LrSchedule {
 public:
  // `type` is training.lr_scheduler_type. Throws TrainerError (CONFIG) when it
  // names no schedule.
  LrSchedule(const std::string& type, double learning_rate, int64_t warmup_steps,
             int64_t total_steps);

  // From a job's training section: warmup_steps, or ceil(warmup_ratio * T).
  static LrSchedule FromSpec(const liger::v1::TrainingSpec& training, int64_t total_steps);

  // Learning rate of optimizer step t, counted from 0.
  double LearningRate(int64_t step) const;

  int64_t warmup_steps() const { return warmup_steps_; }

 private:
  enum class Shape { kConstant, kConstantWithWarmup, kLinear, kCosine };
  static Shape ParseShape(const std::string& type);
  double Factor(int64_t step) const;

  Shape shape_;
  double learning_rate_;
  int64_t warmup_steps_;
  int64_t total_steps_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_SCHEDULE_H_
