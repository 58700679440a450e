#ifndef LIGER_WORKER_TRAINER_LOOP_CHECKPOINT_REQUESTS_H_
#define LIGER_WORKER_TRAINER_LOOP_CHECKPOINT_REQUESTS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace liger::trainer {

// Checkpoint commands that wait for the end of the present step. Thread-safe.
class CheckpointRequests {
 public:
  void Add(const std::string& command_id) {
    const absl::MutexLock lock(&mutex_);
    waiting_.push_back(command_id);
  }
  // Their ids, which the caller answers.
  std::vector<std::string> Take() {
    const absl::MutexLock lock(&mutex_);
    return std::exchange(waiting_, {});
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::string> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_CHECKPOINT_REQUESTS_H_
