#ifndef LIGER_WORKER_TRAINER_LOOP_EVENTS_H_
#define LIGER_WORKER_TRAINER_LOOP_EVENTS_H_

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "liger/trainer/v1/trainer.pb.h"

namespace liger::trainer {

// Where events go. Implementations are thread-safe: the heartbeat thread emits
// beside the training thread.
class EventSink {
 public:
  virtual ~EventSink() = default;
  // False when the event could not be stored; it is lost then.
  virtual bool Emit(liger::trainer::v1::Event event) = 0;
};

// Appends framed events to a file that the agent tails (common/framing.h).
// Numbers them gaplessly from 1 and stamps the monotonic time.
class EventFile : public EventSink {
 public:
  // `fd` is open for appending; not owned.
  EventFile(int fd, int rank) : fd_(fd), rank_(rank) {}

  // A frame that does not fit (disk full) is cut off again, so that the file
  // stays readable, and its number is used by the next one.
  bool Emit(liger::trainer::v1::Event event) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const int fd_;
  const int rank_;
  absl::Mutex mutex_;
  int64_t last_seq_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_EVENTS_H_
