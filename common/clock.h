#ifndef LIGER_COMMON_CLOCK_H_
#define LIGER_COMMON_CLOCK_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace liger {

// Source of time, so that tests can move it. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
  // Since an arbitrary start; never goes back, whoever sets the wall clock: for intervals.
  virtual absl::Duration Elapsed() const = 0;

  // The wall clock; never destroyed.
  static Clock* Real();
};

// Stands still until told otherwise.
class FakeClock : public Clock {
 public:
  explicit FakeClock(absl::Time start = absl::UnixEpoch() + absl::Hours(24 * 365 * 50))
      : now_(start) {}

  absl::Time Now() const override {
    absl::MutexLock lock(&mutex_);
    return now_;
  }
  absl::Duration Elapsed() const override {
    absl::MutexLock lock(&mutex_);
    return elapsed_;
  }
  void Advance(absl::Duration by) {
    absl::MutexLock lock(&mutex_);
    now_ += by;
    elapsed_ += by;
  }
  // Somebody sets the wall clock.
  void Step(absl::Duration by) {
    absl::MutexLock lock(&mutex_);
    now_ += by;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
  // As of a host that has been up for a while.
  absl::Duration elapsed_ ABSL_GUARDED_BY(mutex_) = absl::Hours(24);
};

}  // namespace liger

#endif  // LIGER_COMMON_CLOCK_H_
