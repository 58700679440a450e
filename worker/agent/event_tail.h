#ifndef LIGER_WORKER_AGENT_EVENT_TAIL_H_
#define LIGER_WORKER_AGENT_EVENT_TAIL_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/framing.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "common/unique_fd.h"

namespace liger::agent {

// Follows one trainer's event file from its start. The file need not exist yet.
class EventTail {
 public:
  explicit EventTail(std::string path) : path_(std::move(path)) {}

  // Complete events that were appended since the last call, at most about
  // `max_bytes` of them. DATA_LOSS when a frame is corrupt: nothing behind it
  // can be trusted, and all later calls say the same. A whole frame that is no
  // Event is skipped with a warning.
  absl::StatusOr<std::vector<trainer::v1::Event>> Read(size_t max_bytes = 1 << 20);

  // True when the last Read reached the end of the file.
  bool at_end() const { return at_end_; }
  // Bytes of an unfinished frame at the end. Once the trainer is dead, a torn
  // write.
  size_t torn_bytes() const { return reader_.pending(); }

 private:
  absl::Status Fill(size_t max_bytes);

  std::string path_;
  UniqueFd fd_;
  FrameReader reader_;
  bool at_end_ = false;
  absl::Status failure_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_EVENT_TAIL_H_
