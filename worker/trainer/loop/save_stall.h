#ifndef LIGER_WORKER_TRAINER_LOOP_SAVE_STALL_H_
#define LIGER_WORKER_TRAINER_LOOP_SAVE_STALL_H_

#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace liger::trainer {

// For how long saves have held up a run's steps.
class SaveStall {
 public:
  void Add(absl::Duration time) { sum_ += time; }
  // Since the last call.
  absl::Duration Take() { return std::exchange(sum_, absl::ZeroDuration()); }

 private:
  friend class HoldsUpSteps;
  absl::Duration sum_;
  bool holds_ = false;
};

// While it lives, a save does. Of those within each other the outermost counts.
class HoldsUpSteps {
 public:
  explicit HoldsUpSteps(SaveStall& stall)
      : stall_(stall), outermost_(!std::exchange(stall.holds_, true)) {}
  ~HoldsUpSteps() {
    if (!outermost_) return;
    stall_.holds_ = false;
    stall_.Add(absl::Now() - begin_);
  }
  HoldsUpSteps(const HoldsUpSteps&) = delete;
  HoldsUpSteps& operator=(const HoldsUpSteps&) = delete;

 private:
  SaveStall& stall_;
  const bool outermost_;
  const absl::Time begin_ = absl::Now();
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_SAVE_STALL_H_
