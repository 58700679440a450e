#ifndef LIGER_WORKER_AGENT_SHIP_SOURCE_H_
#define LIGER_WORKER_AGENT_SHIP_SOURCE_H_

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/event_tail.h"
#include "common/unique_fd.h"

namespace liger::agent {

// One task's log and logged steps as chunks to ship. Thread-safe: chunks are
// taken by the sending thread, acknowledgements noted by the receiving one.
class ShipSource {
 public:
  ShipSource(const trainer::v1::Ref& ref, int rank, std::string log_path, std::string events_path);

  // On a new stream: nothing is in flight, and the first chunk asks where to
  // go on.
  void Restart();
  // The next chunk, at most about 64 KiB; nullopt when there is none now, when
  // the answer to the first one is out, or 1 MiB of log is unacknowledged.
  std::optional<worker::v1::Chunk> Next();
  void Acknowledged(const worker::v1::ChunkAck& ack);

  void Finish();
  bool Drained();

 private:
  std::optional<worker::v1::Chunk> NextLog() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<worker::v1::Chunk> NextMetrics() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadSteps() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t LogSize() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  worker::v1::Chunk MakeChunk() const;

  const trainer::v1::Ref ref_;
  const int rank_;
  const std::string log_path_;
  absl::Mutex mutex_;
  UniqueFd log_ ABSL_GUARDED_BY(mutex_);
  EventTail tail_ ABSL_GUARDED_BY(mutex_);
  // Steps read and not acknowledged; the first `steps_sent_` of them are out.
  std::deque<worker::v1::MetricSample> steps_ ABSL_GUARDED_BY(mutex_);
  size_t steps_sent_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t through_step_ ABSL_GUARDED_BY(mutex_) = -1;
  int64_t log_sent_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t log_acknowledged_ ABSL_GUARDED_BY(mutex_) = 0;
  bool asked_ ABSL_GUARDED_BY(mutex_) = false;
  bool resumed_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_SHIP_SOURCE_H_
