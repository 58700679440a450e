#include "worker/trainer/loop/commands.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/framing.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

constexpr absl::Duration kAgentLostGrace = absl::Seconds(4);

}  // namespace

CommandReader::CommandReader(int fd, StopFlag& stop, CheckpointRequests& checkpoints,
                             Reporter& reporter, Exit exit)
    : fd_(fd), stop_(stop), checkpoints_(checkpoints), reporter_(reporter), exit_(std::move(exit)) {
  if (pipe2(wake_fds_, O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
  thread_ = std::thread([this] { Run(); });
}

CommandReader::~CommandReader() {
  closing_.Notify();
  close(wake_fds_[1]);  // readable (end of file) for the poll below
  thread_.join();
  close(wake_fds_[0]);
}

void CommandReader::Run() {
  const std::optional<absl::Duration> grace = ReadUntilStop();
  if (!grace) return;
  if (!closing_.WaitForNotificationWithTimeout(*grace)) exit_(kExitStopped);
}

std::optional<absl::Duration> CommandReader::ReadUntilStop() {
  FrameReader frames;
  char buffer[4096];
  while (WaitReadable()) {
    const ssize_t got = read(fd_, buffer, sizeof(buffer));
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) {
      stop_.Request("the agent is gone (end of the command pipe)");
      return kAgentLostGrace;
    }
    frames.Append({buffer, static_cast<size_t>(got)});
    std::string payload;
    FrameReader::Result result;
    while ((result = frames.Next(&payload)) == FrameReader::Result::kFrame) {
      liger::trainer::v1::Command command;
      if (!command.ParseFromString(payload)) result = FrameReader::Result::kCorrupt;
      if (const auto grace = Handle(command)) return grace;
    }
    if (result == FrameReader::Result::kCorrupt) {
      stop_.Request("the command pipe carries something that is not a command");
      return kAgentLostGrace;
    }
  }
  return std::nullopt;
}

bool CommandReader::WaitReadable() {
  pollfd fds[2] = {{fd_, POLLIN, 0}, {wake_fds_[0], POLLIN, 0}};
  while (poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  return !closing_.HasBeenNotified();
}

std::optional<absl::Duration> CommandReader::Handle(const liger::trainer::v1::Command& command) {
  using Command = liger::trainer::v1::Command;
  switch (command.command_case()) {
    case Command::kStop: {
      const std::string& reason = command.stop().reason();
      stop_.Request(reason.empty() ? "stop command" : reason);
      reporter_.CommandDone(command.command_id(), "ok");
      return absl::Seconds(std::max(1.0, command.stop().grace_seconds()));
    }
    case Command::kCheckpoint:
      checkpoints_.Add(command.command_id());
      return std::nullopt;
    case Command::kPause:
      checkpoints_.AddPause(command.command_id());
      return std::nullopt;
    default:
      reporter_.CommandDone(command.command_id(), "not supported: unknown command");
      return std::nullopt;
  }
}

}  // namespace liger::trainer
