#ifndef LIGER_WORKER_TRAINER_LOOP_CHECKPOINT_REQUESTS_H_
#define LIGER_WORKER_TRAINER_LOOP_CHECKPOINT_REQUESTS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace liger::trainer {

// Commands that wait for the end of the present step: to save a checkpoint, and to
// pause (save one and end). Thread-safe.
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

  void AddPause(const std::string& command_id) {
    const absl::MutexLock lock(&mutex_);
    pauses_.push_back(command_id);
  }
  bool pause_requested() const {
    const absl::MutexLock lock(&mutex_);
    return !pauses_.empty();
  }
  std::vector<std::string> TakePauses() {
    const absl::MutexLock lock(&mutex_);
    return std::exchange(pauses_, {});
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<std::string> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> pauses_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_CHECKPOINT_REQUESTS_H_
