#include "worker/trainer/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "worker/trainer/error.h"

namespace liger::trainer {

LrSchedule::Shape LrSchedule::ParseShape(const std::string& type) {
  if (type.empty() || type == "linear") return Shape::kLinear;
  if (type == "cosine") return Shape::kCosine;
  if (type == "constant") return Shape::kConstant;
  if (type == "constant_with_warmup") return Shape::kConstantWithWarmup;
  throw ConfigError("training.lr_scheduler_type: '" + type + "' is not a schedule",
                    "use linear, cosine, constant or constant_with_warmup")
      .Field("training.lr_scheduler_type");
}

LrSchedule::LrSchedule(const std::string& type, double learning_rate, int64_t warmup_steps,
                       int64_t total_steps)
    : shape_(ParseShape(type)),
      learning_rate_(learning_rate),
      warmup_steps_(warmup_steps),
      total_steps_(total_steps) {}

LrSchedule LrSchedule::FromSpec(const liger::v1::TrainingSpec& training, int64_t total_steps) {
  int64_t warmup = training.warmup_steps();
  if (warmup == 0 && training.warmup_ratio() > 0) {
    warmup = static_cast<int64_t>(std::ceil(training.warmup_ratio() * double(total_steps)));
  }
  return LrSchedule(training.lr_scheduler_type(), training.learning_rate(), warmup, total_steps);
}

double LrSchedule::Factor(int64_t step) const {
  if (shape_ == Shape::kConstant) return 1.0;
  if (step < warmup_steps_) return double(step) / double(std::max<int64_t>(1, warmup_steps_));
  if (shape_ == Shape::kConstantWithWarmup) return 1.0;
  const double decay_steps = double(std::max<int64_t>(1, total_steps_ - warmup_steps_));
  if (shape_ == Shape::kLinear) return std::max(0.0, double(total_steps_ - step) / decay_steps);
  const double progress = double(step - warmup_steps_) / decay_steps;
  return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

double LrSchedule::LearningRate(int64_t step) const { return learning_rate_ * Factor(step); }

}  // namespace liger::trainer
