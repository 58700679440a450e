#ifndef LIGER_WORKER_TRAINER_LOOP_SAVE_PACE_H_
#define LIGER_WORKER_TRAINER_LOOP_SAVE_PACE_H_

#include <algorithm>
#include <optional>

#include "absl/time/time.h"

namespace liger::trainer {

// Of checkpoints that are written beside training, one at a time: whether the next one would hold
// training up for too long, since the disk has not done with the one before.
class SavePace {
 public:
  // What the next one may wait for it: a share of the time since the one before began, and never
  // less than kLeast.
  static constexpr double kShare = 0.05;
  static constexpr absl::Duration kLeast = absl::Seconds(5);

  void Begin(absl::Time now) {
    began_ = now;
    writing_ = true;
  }
  void End(absl::Duration took) {
    took_ = took;
    writing_ = false;
  }

  // For about how long a checkpoint that is due now would wait, if that is too long.
  std::optional<absl::Duration> TooLongAt(absl::Time now) const {
    if (!writing_) return std::nullopt;
    const absl::Duration so_far = now - began_;
    // As long as the last one; of one that takes longer as long again as until now.
    const absl::Duration left = so_far < took_ ? took_ - so_far : so_far;
    if (left <= std::max(kLeast, kShare * so_far)) return std::nullopt;
    return left;
  }

 private:
  absl::Time began_;
  absl::Duration took_;
  bool writing_ = false;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_SAVE_PACE_H_
