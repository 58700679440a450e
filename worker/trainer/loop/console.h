#ifndef LIGER_WORKER_TRAINER_LOOP_CONSOLE_H_
#define LIGER_WORKER_TRAINER_LOOP_CONSOLE_H_

#include <optional>
#include <ostream>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/trainer/loop/events.h"

namespace liger::trainer {

// Events as lines for a person (or a log file), each with `prefix` before it.
class Console : public EventSink {
 public:
  explicit Console(std::ostream& out, std::string prefix = "")
      : out_(out), prefix_(std::move(prefix)) {}
  bool Emit(liger::trainer::v1::Event event) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Mutex mutex_;
  std::ostream& out_ ABSL_GUARDED_BY(mutex_);
  std::optional<int> violations_ ABSL_GUARDED_BY(mutex_);  // that a CHECK found
  const std::string prefix_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_CONSOLE_H_
