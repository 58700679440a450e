#ifndef LIGER_SERVER_METRICS_TIMED_STEPS_H_
#define LIGER_SERVER_METRICS_TIMED_STEPS_H_

#include <cstdint>

#include "liger/trainer/v1/trainer.pb.h"

namespace liger::server {

// Logged steps of the newest attempt, of which the first does not count for speed
// while there are others (client/report/statistics.h says the same).
struct TimedSteps {
  int64_t epoch = 0;
  int count = 0;
  double tokens = 0;
  double seconds = 0;

  void Add(int64_t of_epoch, const liger::trainer::v1::Step& step) {
    if (of_epoch < epoch) return;
    if (of_epoch > epoch) *this = {.epoch = of_epoch};
    if (++count == 2) tokens = seconds = 0;
    tokens += step.tokens_per_second() * step.step_seconds();
    seconds += step.step_seconds();
  }
};

}  // namespace liger::server

#endif  // LIGER_SERVER_METRICS_TIMED_STEPS_H_
