#include "worker/trainer/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "worker/trainer/error.h"

namespace liger::trainer {

LrSchedule::Shape LrSchedule::ParseShape(const std::string& type) {
  if (type.empty() || type == "linear") return Shape::kLinear;
  if (type == "cosine") return Shape::kCosine;
  if (type == "cosine_with_min_lr") return Shape::kCosineWithMinLr;
  if (type == "polynomial") return Shape::kPolynomial;
  if (type == "inverse_sqrt") return Shape::kInverseSqrt;
  if (type == "warmup_stable_decay") return Shape::kWarmupStableDecay;
  if (type == "constant") return Shape::kConstant;
  if (type == "constant_with_warmup") return Shape::kConstantWithWarmup;
  throw ConfigError("training.lr_scheduler_type: '" + type + "' is not a schedule",
                    "use linear, cosine, cosine_with_min_lr, polynomial, inverse_sqrt, "
                    "warmup_stable_decay, constant or constant_with_warmup")
      .Field("training.lr_scheduler_type");
}

LrSchedule::LrSchedule(const std::string& type, double learning_rate, int64_t warmup_steps,
                       int64_t total_steps, const liger::v1::LrSchedulerKwargs& kwargs)
    : shape_(ParseShape(type)),
      learning_rate_(learning_rate),
      warmup_steps_(warmup_steps),
      total_steps_(total_steps),
      kwargs_(kwargs) {
  if (!kwargs_.has_num_cycles()) kwargs_.set_num_cycles(0.5);
  if (!kwargs_.has_lr_end()) kwargs_.set_lr_end(1e-7);
  if (!kwargs_.has_power()) kwargs_.set_power(1.0);
  if (!kwargs_.has_timescale()) kwargs_.set_timescale(warmup_steps > 0 ? warmup_steps : 10'000);
  if (!kwargs_.has_num_stable_steps()) {
    kwargs_.set_num_stable_steps(total_steps - warmup_steps - kwargs_.num_decay_steps());
  }
  if (kwargs_.has_min_lr()) kwargs_.set_min_lr_rate(kwargs_.min_lr() / learning_rate);
}

LrSchedule LrSchedule::FromSpec(const liger::v1::TrainingSpec& training, int64_t total_steps) {
  const double steps = training.warmup_steps();
  const double share = steps > 0 ? steps : training.warmup_ratio();
  const auto warmup =
      static_cast<int64_t>(share < 1 ? std::ceil(share * double(total_steps)) : share);
  return LrSchedule(training.lr_scheduler_type(), training.learning_rate(), warmup, total_steps,
                    training.lr_scheduler_kwargs());
}

double LrSchedule::Cosine(double progress) const {
  return 0.5 * (1.0 + std::cos(std::numbers::pi * kwargs_.num_cycles() * 2.0 * progress));
}

double LrSchedule::WarmupStableDecay(int64_t step) const {
  const double least = kwargs_.min_lr_ratio();
  const auto above_least = [least](double share) {
    return std::max(0.0, share * (1.0 - least) + least);
  };
  if (step < warmup_steps_) {
    const double progress = double(step) / double(warmup_steps_);
    if (kwargs_.warmup_type() == "cosine") {
      return above_least(0.5 * (1.0 - std::cos(std::numbers::pi * progress)));
    }
    if (kwargs_.warmup_type() == "1-sqrt") return above_least(1.0 - std::sqrt(1.0 - progress));
    return above_least(progress);
  }
  const int64_t decaying = step - warmup_steps_ - kwargs_.num_stable_steps();
  if (decaying < 0) return 1.0;
  if (decaying >= kwargs_.num_decay_steps()) return least;
  const double progress = double(decaying) / double(kwargs_.num_decay_steps());
  if (kwargs_.decay_type() == "linear") return above_least(1.0 - progress);
  if (kwargs_.decay_type() == "1-sqrt") return above_least(1.0 - std::sqrt(progress));
  return above_least(Cosine(progress));
}

double LrSchedule::Factor(int64_t step) const {
  if (shape_ == Shape::kConstant) return 1.0;
  if (shape_ == Shape::kWarmupStableDecay) return WarmupStableDecay(step);
  if (step < warmup_steps_) return double(step) / double(warmup_steps_);
  const double decay_steps = double(std::max<int64_t>(1, total_steps_ - warmup_steps_));
  const double progress = double(step - warmup_steps_) / decay_steps;
  switch (shape_) {
    case Shape::kLinear:
      return std::max(0.0, double(total_steps_ - step) / decay_steps);
    case Shape::kCosine:
      return std::max(0.0, Cosine(progress));
    case Shape::kCosineWithMinLr: {
      const double least = kwargs_.min_lr_rate();
      return std::max(0.0, Cosine(progress) * (1.0 - least) + least);
    }
    case Shape::kPolynomial: {
      const double remaining = std::pow(std::max(0.0, 1.0 - progress), kwargs_.power());
      return ((learning_rate_ - kwargs_.lr_end()) * remaining + kwargs_.lr_end()) / learning_rate_;
    }
    case Shape::kInverseSqrt: {
      const auto timescale = double(kwargs_.timescale());
      return 1.0 / std::sqrt((double(step - warmup_steps_) + timescale) / timescale);
    }
    default:
      return 1.0;
  }
}

double LrSchedule::LearningRate(int64_t step) const { return learning_rate_ * Factor(step); }

}  // namespace liger::trainer
