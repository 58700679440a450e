#ifndef LIGER_WORKER_TRAINER_PARALLEL_EXIT_DEADLINE_H_
#define LIGER_WORKER_TRAINER_PARALLEL_EXIT_DEADLINE_H_

#include <functional>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace liger::trainer {

// Ends the process unless it is destroyed in time. For a rank that has left its gang: what it lets
// go of (collectives on their way and their process groups, which c10d joins the threads of) waits
// for other ranks, which may be frozen or cut off, and no watch is there any more.
class ExitDeadline {
 public:
  // `end` must not return; it is called by a thread of its own.
  ExitDeadline(absl::Duration limit, std::function<void()> end);
  ~ExitDeadline();
  ExitDeadline(const ExitDeadline&) = delete;

 private:
  absl::Mutex mutex_;
  bool met_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_EXIT_DEADLINE_H_
