#ifndef LIGER_SERVER_RPC_EXECUTOR_H_
#define LIGER_SERVER_RPC_EXECUTOR_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace liger::server {

// A few threads for what must not run on a gRPC thread: reads of the store and
// of log files. With one thread, work runs in the order it came.
class Executor {
 public:
  explicit Executor(int threads);
  // Runs what is queued, then joins.
  ~Executor();

  // After Shutdown, and during destruction, `work` is dropped.
  void Run(std::function<void()> work) ABSL_LOCKS_EXCLUDED(mutex_);

  // Runs what is queued, then joins. Idempotent.
  void Shutdown() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Loop() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_RPC_EXECUTOR_H_
