#ifndef LIGER_WORKER_TRAINER_LOOP_PROGRESS_H_
#define LIGER_WORKER_TRAINER_LOOP_PROGRESS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/time/time.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "worker/trainer/loop/step.h"

namespace liger::trainer {

// Sums up the steps since the last logged one, and since the start. Time is
// that of the steps alone, without evaluation, sampling and saving.
class Progress {
 public:
  // `flops`: what the step's mathematics takes (step_flops.h).
  void AddStep(const StepResult& result, double learning_rate, absl::Duration seconds,
               double flops = 0);

  // What a logged step reports, under TRL's names: means over the steps since
  // the last log; grad_norm and learning_rate of the last step. throughput is in
  // tokens a second, tflops in 10^12 operations a second.
  struct Logged {
    std::map<std::string, double> values;
    double step_seconds = 0;       // mean
    double tokens_per_second = 0;  // real tokens
  };
  Logged TakeLogged(double epoch);

  // All of it, to go on from later. Sums are exact.
  struct State {
    std::map<std::string, MetricSums::Value> window;
    int64_t window_steps = 0;
    int64_t window_tokens = 0;
    double window_seconds = 0;
    double window_flops = 0;
    double grad_norm = 0;
    double learning_rate = 0;
    int64_t tokens_total = 0;
    double train_seconds = 0;
  };
  State state() const;
  // `device`: where later steps' metrics are.
  void Restore(const State& state, at::Device device);

  int64_t tokens_total() const { return tokens_total_; }
  double train_seconds() const { return absl::ToDoubleSeconds(train_time_); }
  double mean_tokens_per_second() const;

 private:
  MetricSums window_metrics_;
  int64_t window_steps_ = 0;
  int64_t window_tokens_ = 0;
  double window_flops_ = 0;
  absl::Duration window_time_;
  double last_grad_norm_ = 0;
  double last_learning_rate_ = 0;
  int64_t tokens_total_ = 0;
  absl::Duration train_time_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_PROGRESS_H_
