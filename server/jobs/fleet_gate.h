#ifndef LIGER_SERVER_JOBS_FLEET_GATE_H_
#define LIGER_SERVER_JOBS_FLEET_GATE_H_

#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/jobs/fleet_port.h"

namespace liger::server {

// The way to the fleet, open between Open and Close. Calls go through without
// a lock held, so that the fleet may call back.
class FleetGate {
 public:
  void Open(FleetPort* fleet) {
    absl::MutexLock lock(&mutex_);
    fleet_ = fleet;
  }

  // Waits for the calls inside. REQUIRES: not called from one.
  void Close() {
    absl::MutexLock lock(&mutex_);
    fleet_ = nullptr;
    mutex_.Await(absl::Condition(
        +[](int* inside) { return *inside == 0; }, &inside_));
  }

  // Does nothing while the gate is closed.
  void Call(const std::function<void(FleetPort&)>& call) {
    FleetPort* fleet = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      if (fleet_ == nullptr) return;
      fleet = fleet_;
      ++inside_;
    }
    call(*fleet);
    absl::MutexLock lock(&mutex_);
    --inside_;
  }

 private:
  absl::Mutex mutex_;
  FleetPort* fleet_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int inside_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_FLEET_GATE_H_
