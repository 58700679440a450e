#include "tests/e2e/child_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/file.h"

namespace liger::e2e {

namespace fs = std::filesystem;

ChildProcess::ChildProcess(std::vector<std::string> argv, std::string log,
                           std::map<std::string, std::string> variables) {
  std::vector<char*> pointers;
  for (std::string& arg : argv) pointers.push_back(arg.data());
  pointers.push_back(nullptr);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  dup2(fd, 1);
  dup2(fd, 2);
  for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  execv(pointers[0], pointers.data());
  _exit(127);
}

ChildProcess::~ChildProcess() { Kill(); }

void ChildProcess::Signal(int signal_number) const {
  if (pid_ > 0) kill(pid_, signal_number);
}

bool ChildProcess::Running() {
  if (pid_ > 0 && waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = 0;
  return pid_ > 0;
}

void ChildProcess::Kill() {
  if (!Running()) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, &status_, 0);
  pid_ = 0;
}

int ChildProcess::Terminate(absl::Duration timeout) {
  Signal(SIGTERM);
  const absl::Time deadline = absl::Now() + timeout;
  while (Running()) {
    if (absl::Now() > deadline) {
      ADD_FAILURE() << CommandLine(pid_) << " does not end at SIGTERM";
      Kill();
      break;
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  return status_;
}

std::vector<pid_t> ProcessesWith(const std::string& assignment) {
  std::vector<pid_t> pids;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc")) {
    pid_t pid;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid) || pid == getpid()) continue;
    const auto environ = ReadFile((entry.path() / "environ").string());
    if (!environ.ok()) continue;
    const std::vector<std::string> variables = absl::StrSplit(*environ, '\0');
    if (std::count(variables.begin(), variables.end(), assignment) > 0) pids.push_back(pid);
  }
  return pids;
}

std::string CommandLine(pid_t pid) {
  std::string line = ReadFile("/proc/" + std::to_string(pid) + "/cmdline").value_or("");
  std::replace(line.begin(), line.end(), '\0', ' ');
  return line;
}

std::set<int> ListeningPorts(pid_t pid) {
  std::set<std::string> sockets;
  std::error_code error;
  const std::string fds = absl::StrCat("/proc/", pid, "/fd");
  for (fs::directory_iterator it(fds, error), end; pid != 0 && !error && it != end;
       it.increment(error)) {
    std::error_code gone;
    sockets.insert(fs::read_symlink(it->path(), gone).string());
  }
  std::set<int> ports;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    const std::string content = ReadFile(table).value_or("");
    for (absl::string_view line : absl::StrSplit(content, '\n')) {
      // sl local_address rem_address st ... inode: 0A is the state LISTEN.
      const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (words.size() < 10 || words[3] != "0A") continue;
      if (pid != 0 && !sockets.contains(absl::StrCat("socket:[", words[9], "]"))) continue;
      const size_t colon = words[1].rfind(':');
      ports.insert(static_cast<int>(strtol(words[1].c_str() + colon + 1, nullptr, 16)));
    }
  }
  return ports;
}

}  // namespace liger::e2e
