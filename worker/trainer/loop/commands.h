#ifndef LIGER_WORKER_TRAINER_LOOP_COMMANDS_H_
#define LIGER_WORKER_TRAINER_LOOP_COMMANDS_H_

#include <functional>
#include <optional>
#include <thread>

#include "absl/time/time.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "worker/trainer/loop/checkpoint_requests.h"
#include "worker/trainer/loop/reporter.h"
#include "worker/trainer/loop/stop.h"

namespace liger::trainer {

// Reads the agent's commands from a pipe in a thread of its own.
//
// Stop requests the stop; when the task has not ended after the command's
// grace (at least a second), the process exits by itself. At the pipe's end of
// file the agent is gone: the same with a grace of 4 s, so that the process
// never outlives its agent by more than 5 s. Checkpoint is answered in CommandDone once
// the checkpoint of the present step is saved; so is Pause, after which the task ends.
class CommandReader {
 public:
  // Ends the process with this code; tests replace it.
  using Exit = std::function<void(int code)>;

  // `fd` is not owned. The thread ends with the stream, or with this object.
  CommandReader(int fd, StopFlag& stop, CheckpointRequests& checkpoints, Reporter& reporter,
                Exit exit);
  ~CommandReader();
  CommandReader(const CommandReader&) = delete;
  CommandReader& operator=(const CommandReader&) = delete;

 private:
  void Run();
  // Grace after which the process must be gone; nullopt: read on.
  std::optional<absl::Duration> Handle(const liger::trainer::v1::Command& command);
  std::optional<absl::Duration> ReadUntilStop();
  // Waits for input, the end of this object (false) or the deadline (false).
  bool WaitReadable();

  const int fd_;
  StopFlag& stop_;
  CheckpointRequests& checkpoints_;
  Reporter& reporter_;
  const Exit exit_;
  int wake_fds_[2];
  absl::Notification closing_;
  std::thread thread_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_COMMANDS_H_
