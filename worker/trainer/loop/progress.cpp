#include "worker/trainer/loop/progress.h"

namespace liger::trainer {

void Progress::AddStep(const StepResult& result, double learning_rate, absl::Duration seconds,
                       double flops) {
  window_metrics_.Add(result.metrics);
  ++window_steps_;
  window_tokens_ += result.num_tokens;
  window_flops_ += flops;
  window_time_ += seconds;
  last_grad_norm_ = result.grad_norm;
  last_learning_rate_ = learning_rate;
  tokens_total_ += result.num_tokens;
  train_time_ += seconds;
}

Progress::Logged Progress::TakeLogged(double epoch) {
  Logged logged;
  logged.values = window_metrics_.Means();
  logged.values["grad_norm"] = last_grad_norm_;
  logged.values["learning_rate"] = last_learning_rate_;
  logged.values["epoch"] = epoch;
  logged.values["num_tokens"] = double(tokens_total_);
  const double seconds = absl::ToDoubleSeconds(window_time_);
  if (window_steps_ > 0) logged.step_seconds = seconds / double(window_steps_);
  if (seconds > 0) {
    logged.tokens_per_second = double(window_tokens_) / seconds;
    logged.values["throughput"] = logged.tokens_per_second;
    logged.values["tflops"] = window_flops_ / seconds / 1e12;
  }
  window_metrics_ = MetricSums();
  window_steps_ = 0;
  window_tokens_ = 0;
  window_flops_ = 0;
  window_time_ = absl::ZeroDuration();
  return logged;
}

Progress::State Progress::state() const {
  return {.window = window_metrics_.Values(),
          .window_steps = window_steps_,
          .window_tokens = window_tokens_,
          .window_seconds = absl::ToDoubleSeconds(window_time_),
          .window_flops = window_flops_,
          .grad_norm = last_grad_norm_,
          .learning_rate = last_learning_rate_,
          .tokens_total = tokens_total_,
          .train_seconds = train_seconds()};
}

void Progress::Restore(const State& state, at::Device device) {
  window_metrics_ = MetricSums();
  for (const auto& [name, value] : state.window) window_metrics_.Add(name, value, device);
  window_steps_ = state.window_steps;
  window_tokens_ = state.window_tokens;
  window_time_ = absl::Seconds(state.window_seconds);
  window_flops_ = state.window_flops;
  last_grad_norm_ = state.grad_norm;
  last_learning_rate_ = state.learning_rate;
  tokens_total_ = state.tokens_total;
  train_time_ = absl::Seconds(state.train_seconds);
}

double Progress::mean_tokens_per_second() const {
  return train_time_ > absl::ZeroDuration() ? double(tokens_total_) / train_seconds() : 0;
}

}  // namespace liger::trainer
