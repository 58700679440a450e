#include "worker/agent/trainer_code.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "common/file_state.h"
#include "common/unique_fd.h"
#include "worker/agent/log.h"
#include "worker/agent/process.h"
#include "worker/agent/steady_time.h"
#include "worker/agent/trainer_environment.h"

namespace liger::agent {
namespace {

// A file at /usr/lib has 100 bytes of path, and a trainer has some hundred files.
constexpr size_t kMaxAnswerBytes = 1 << 20;

constexpr absl::Duration kAskAgain = absl::Minutes(1);
// While none starts nothing can run here.
constexpr absl::Duration kAskAgainSoon = absl::Seconds(10);

constexpr absl::Duration kExitPoll = absl::Milliseconds(1);
constexpr int kExitPolls = 500;

// All that comes until the other end is closed; nullopt when that takes too long.
std::optional<std::string> ReadAll(int fd, absl::Time deadline) {
  std::string text;
  char buffer[4096];
  while (text.size() < kMaxAnswerBytes) {
    pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
    const int64_t left = absl::ToInt64Milliseconds(deadline - SteadyNow());
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

// Collects a process that is about to end. Its id; -1: the agent's own thread did, which takes it
// for an orphan; 0: it has not ended yet, as a killed one does that a network file system holds up.
pid_t Collect(pid_t pid, int* status) {
  for (int i = 0; i < kExitPolls; ++i) {
    const pid_t collected = waitpid(pid, status, WNOHANG);
    if (collected != 0) return collected;
    absl::SleepFor(kExitPoll);
  }
  return 0;
}

std::string NotStarting(absl::string_view why) {
  return absl::StrCat("its trainer does not start: ", why);
}

}  // namespace

std::string TrainerCode::Digest() {
  if (!files_.empty() && FileStatesDigest(files_) == digest_) return digest_;
  if (SteadyNow() < not_before_) return "";
  files_ = Ask();
  digest_ = files_.empty() ? "" : FileStatesDigest(files_);
  if (!files_.empty()) {
    not_before_ = absl::InfinitePast();
    warned_ = false;
    return digest_;
  }
  not_before_ = SteadyNow() + (fault_.empty() ? kAskAgain : kAskAgainSoon);
  if (!fault_.empty()) return "";  // the agent tells it
  if (!std::exchange(warned_, true)) {
    LogWarning(trainer_,
               " --list-code has not answered: no experiment takes a result of this "
               "worker again; is it of the agent's release?");
  }
  return "";
}

absl::StatusOr<TrainerCode::Answer> TrainerCode::Run(const std::string& argument) const {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Answer{};
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  const SpawnRequest request{
      .argv = {trainer_, argument}, .env = OwnEnvironment(), .log_fd = in.get()};
  const absl::StatusOr<ProcessId> process = spawner_.Spawn(request);
  in.reset();
  if (!process.ok()) return process.status();
  Answer answer{ReadAll(out.get(), SteadyNow() + patience_), std::nullopt};
  // What has said all that it will is on its way out.
  int status = 0;
  const pid_t collected = answer.text ? Collect(process->pid, &status) : 0;
  if (collected == process->pid) answer.wait_status = status;
  if (collected != 0) return answer;
  if (IsRunning(*process)) kill(process->pid, SIGKILL);  // nothing more is expected of it
  Collect(process->pid, &status);
  return answer;
}

std::vector<std::string> TrainerCode::Ask() {
  const absl::StatusOr<Answer> answer = Run("--list-code");
  if (!answer.ok()) {
    fault_ = NotStarting(answer.status().message());
    return {};
  }
  std::vector<std::string> files =
      absl::StrSplit(answer->text.value_or(""), '\n', absl::SkipEmpty());
  // So that half a list is not taken for one.
  if (files.empty() || files.back() != "end") {
    // How it ended may not be known; then what was known holds.
    if (answer->wait_status) fault_ = *answer->wait_status == 0 ? "" : WhyNotStarting();
    return {};
  }
  fault_.clear();
  files.pop_back();
  // What else it may print: the loader's warnings.
  std::erase_if(files, [](const std::string& line) { return line[0] != '/'; });
  return files;
}

std::string TrainerCode::WhyNotStarting() const {
  // One of another release may not know what it was asked, and train all the same.
  const absl::StatusOr<Answer> answer = Run("--version");
  if (!answer.ok()) return NotStarting(answer.status().message());
  if (!answer->wait_status) return fault_;
  if (*answer->wait_status == 0) return "";
  const std::vector<std::string> lines =
      absl::StrSplit(answer->text.value_or(""), '\n', absl::SkipWhitespace());
  return NotStarting(lines.empty() ? "it says nothing" : lines.back());
}

}  // namespace liger::agent
