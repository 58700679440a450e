#ifndef LIGER_WORKER_AGENT_EVENT_LOOP_H_
#define LIGER_WORKER_AGENT_EVENT_LOOP_H_

#include <deque>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace liger::agent {

// The agent's state belongs to one thread. Everything that happens elsewhere
// (streams, spawner, publisher, inventory) is posted here as a closure.
class EventLoop {
 public:
  // Thread-safe.
  void Post(absl::AnyInvocable<void()> task);
  void Stop();

  // Runs closures as they come and `tick` at least every `interval`, until
  // Stop().
  void Run(absl::Duration interval, absl::AnyInvocable<void()> tick);

 private:
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopped_ || !tasks_.empty(); }
  // False when stopped.
  bool RunPosted(absl::Duration wait);

  absl::Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_EVENT_LOOP_H_
