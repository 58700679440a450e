#include "worker/agent/trainer_code.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/file_state.h"
#include "common/unique_fd.h"
#include "worker/agent/log.h"
#include "worker/agent/process.h"
#include "worker/agent/trainer_environment.h"

namespace liger::agent {
namespace {

// A file at /usr/lib has 100 bytes of path, and a trainer has some hundred files.
constexpr size_t kMaxAnswerBytes = 1 << 20;

constexpr absl::Duration kAskAgain = absl::Minutes(1);

// All that comes until the other end is closed; nullopt when that takes too long.
std::optional<std::string> ReadAll(int fd, absl::Time deadline) {
  std::string text;
  char buffer[4096];
  while (text.size() < kMaxAnswerBytes) {
    pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left <= 0) return std::nullopt;
    const int ready = poll(&wait, 1, static_cast<int>(left));
    if (ready < 0 && errno != EINTR) return std::nullopt;
    if (ready <= 0) continue;
    const ssize_t count = read(fd, buffer, sizeof(buffer));
    if (count == 0) return text;
    if (count < 0 && errno != EINTR) return std::nullopt;
    if (count > 0) text.append(buffer, static_cast<size_t>(count));
  }
  return std::nullopt;
}

}  // namespace

std::string TrainerCode::Digest() {
  if (!files_.empty() && FileStatesDigest(files_) == digest_) return digest_;
  if (absl::Now() < not_before_) return "";
  files_ = Ask();
  digest_ = files_.empty() ? "" : FileStatesDigest(files_);
  if (!files_.empty()) {
    not_before_ = absl::InfinitePast();
    warned_ = false;
    return digest_;
  }
  not_before_ = absl::Now() + kAskAgain;
  if (!std::exchange(warned_, true)) {
    LogWarning(trainer_,
               " --list-code has not answered: no experiment takes a result of this "
               "worker again; is it of the agent's release?");
  }
  return "";
}

std::vector<std::string> TrainerCode::Ask() const {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return {};
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  const SpawnRequest request{
      .argv = {trainer_, "--list-code"}, .env = OwnEnvironment(), .log_fd = in.get()};
  const absl::StatusOr<ProcessId> process = spawner_.Spawn(request);
  in.reset();
  if (!process.ok()) return {};  // what a job will say, too
  const std::optional<std::string> answer = ReadAll(out.get(), absl::Now() + patience_);
  if (IsRunning(*process)) kill(process->pid, SIGKILL);  // nothing more is expected of it
  // The agent's own thread may have taken it for an orphan and collected it.
  while (waitpid(process->pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  std::vector<std::string> files = absl::StrSplit(answer.value_or(""), '\n', absl::SkipEmpty());
  // So that half a list is not taken for one.
  if (files.empty() || files.back() != "end") return {};
  files.pop_back();
  // What else it may print: the loader's warnings.
  std::erase_if(files, [](const std::string& line) { return line[0] != '/'; });
  return files;
}

}  // namespace liger::agent
