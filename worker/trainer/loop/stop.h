#ifndef LIGER_WORKER_TRAINER_LOOP_STOP_H_
#define LIGER_WORKER_TRAINER_LOOP_STOP_H_

#include <atomic>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/trainer/stop_requested.h"

namespace liger::trainer {

// A request to end, made by a command, a signal or the loss of the agent, and
// looked at between operations. Thread-safe.
class StopFlag {
 public:
  // The first reason stays.
  void Request(const std::string& reason) ABSL_LOCKS_EXCLUDED(mutex_);
  bool requested() const { return requested_.load(std::memory_order_acquire) || Signalled(); }
  // Throws StopRequested once a stop was requested. Called between operations,
  // so it ticks (worker/trainer/ticks.h).
  void Check() const ABSL_LOCKS_EXCLUDED(mutex_);

  // SIGINT and SIGTERM request a stop of every StopFlag; a second one ends the
  // process at once.
  static void HandleSignals();
  // While on, a first SIGTERM asks for a pause (Terminated) and not for a stop.
  static void TakeSigtermAsPause(bool on);
  // SIGTERM has come.
  static bool Terminated();

 private:
  static bool Signalled();

  std::atomic<bool> requested_{false};
  mutable absl::Mutex mutex_;
  std::string reason_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_STOP_H_
