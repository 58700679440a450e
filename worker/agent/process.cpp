#include "worker/agent/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "worker/agent/steady_time.h"
#include "common/unique_fd.h"

namespace liger::agent {
namespace {

// Files in /proc report no size; these are small and read in one go.
std::string ReadProcFile(const std::string& path) {
  std::string content;
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return content;
  char piece[4096];
  ssize_t n;
  while ((n = read(fd.get(), piece, sizeof(piece))) > 0) {
    content.append(piece, static_cast<size_t>(n));
  }
  return content;
}

bool HasVariable(absl::string_view environ, absl::string_view assignment) {
  for (absl::string_view entry : absl::StrSplit(environ, '\0')) {
    if (entry == assignment) return true;
  }
  return false;
}

}  // namespace

std::optional<int64_t> StartTicks(pid_t pid) {
  const std::string stat = ReadProcFile(absl::StrCat("/proc/", pid, "/stat"));
  // The second field is the program's name in parentheses and may hold spaces.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat).substr(name_end + 1), ' ', absl::SkipEmpty());
  int64_t ticks;
  // fields[0] is field 3 (state), so field 22 is fields[19].
  if (fields.size() < 20 || fields[0] == "Z" || !absl::SimpleAtoi(fields[19], &ticks)) {
    return std::nullopt;
  }
  return ticks;
}

bool IsRunning(const ProcessId& process) {
  std::optional<int64_t> ticks = StartTicks(process.pid);
  return ticks.has_value() && *ticks == process.start_ticks;
}

std::vector<pid_t> FindMarked(const std::string& mark) {
  std::vector<pid_t> found;
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return found;
  absl::Cleanup close = [proc] { closedir(proc); };
  const std::string assignment = absl::StrCat(kMarkVariable, "=", mark);
  while (dirent* entry = readdir(proc)) {
    pid_t pid;
    if (!absl::SimpleAtoi(entry->d_name, &pid) || pid == getpid()) continue;
    if (HasVariable(ReadProcFile(absl::StrCat("/proc/", pid, "/environ")), assignment)) {
      found.push_back(pid);
    }
  }
  return found;
}

bool KillTree(const std::vector<ProcessId>& leaders, const std::string& mark,
              absl::Duration timeout) {
  const absl::Time deadline = SteadyNow() + timeout;
  for (const ProcessId& leader : leaders) {
    if (IsRunning(leader)) kill(-leader.pid, SIGKILL);
  }
  while (true) {
    std::vector<pid_t> left = FindMarked(mark);
    bool leader_left = false;
    for (const ProcessId& leader : leaders) leader_left |= IsRunning(leader);
    if (left.empty() && !leader_left) return true;
    for (pid_t pid : left) kill(pid, SIGKILL);
    if (SteadyNow() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(10));
  }
}

void ReapStrays(const std::set<pid_t>& known) {
  while (true) {
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
    if (known.contains(info.si_pid)) return;  // its owner reaps it, then we go on
    waitpid(info.si_pid, nullptr, WNOHANG);
  }
}

}  // namespace liger::agent
