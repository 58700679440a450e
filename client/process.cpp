#include "client/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/errors.h"
#include "common/file.h"

namespace liger::client {

std::string ProgramFolder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
}

ChildProcess::ChildProcess(const std::vector<std::string>& command, const std::string& log_file)
    : log_file_(log_file) {
  if (access(command[0].c_str(), X_OK) != 0) {
    throw CliError(kError, absl::StrCat("cannot run ", command[0], ": ", strerror(errno),
                                        "; liger-cli up needs it beside liger-cli"));
  }
  const int log = open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0)
    throw CliError(kError, absl::StrCat("cannot open ", log_file, ": ", strerror(errno)));
  log_start_ = static_cast<size_t>(std::max<off_t>(0, lseek(log, 0, SEEK_END)));
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    // A group of its own: Ctrl-C reaches only us, and we stop it in order.
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  close(log);
  if (pid_ < 0) throw CliError(kError, absl::StrCat("cannot start ", command[0]));
}

std::string ChildProcess::Log() const {
  const std::string text = ReadFile(log_file_).value_or("");
  return text.substr(std::min(text.size(), log_start_));
}

ChildProcess::~ChildProcess() { Stop(10); }

std::optional<int> ChildProcess::Poll() {
  int status = 0;
  if (!status_ && waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
  return status_;
}

void ChildProcess::Stop(double grace_seconds) {
  if (Poll()) return;
  kill(pid_, SIGTERM);
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::duration<double>(grace_seconds);
  while (!Poll()) {
    if (std::chrono::steady_clock::now() > deadline) kill(pid_, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace liger::client
