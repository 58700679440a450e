#include "server/store/records.h"

namespace liger::server {

const char* AttemptStateName(AttemptState state) {
  switch (state) {
    case AttemptState::kStarting:
      return "STARTING";
    case AttemptState::kRunning:
      return "RUNNING";
    case AttemptState::kSucceeded:
      return "SUCCEEDED";
    case AttemptState::kFailed:
      return "FAILED";
    case AttemptState::kLost:
      return "LOST";
    case AttemptState::kCancelled:
      return "CANCELLED";
    case AttemptState::kPaused:
      return "PAUSED";
  }
  return "UNKNOWN";
}

const char* WorkerStateName(WorkerState state) {
  switch (state) {
    case WorkerState::kReady:
      return "READY";
    case WorkerState::kLost:
      return "LOST";
    case WorkerState::kDraining:
      return "DRAINING";
    case WorkerState::kUnfit:
      return "UNFIT";
  }
  return "UNKNOWN";
}

google::protobuf::Timestamp ToTimestamp(int64_t micros) {
  google::protobuf::Timestamp timestamp;
  timestamp.set_seconds(micros / 1000000);
  timestamp.set_nanos(static_cast<int32_t>(micros % 1000000) * 1000);
  return timestamp;
}

}  // namespace liger::server
