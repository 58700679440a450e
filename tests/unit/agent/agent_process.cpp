#include "tests/unit/agent/agent_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

}  // namespace

AgentProcess::AgentProcess(const std::string& coordinator, const std::string& data_dir)
    : coordinator_(coordinator) {
  std::string pattern = (fs::temp_directory_path() / "liger-agent-test-XXXXXX").string();
  dir_ = mkdtemp(pattern.data());
  data_dir_ = data_dir.empty() ? dir_ + "/data" : data_dir;
}

AgentProcess::~AgentProcess() {
  if (pid_ > 0) {
    Kill();
  }
  for (pid_t pid : Trainers()) kill(pid, SIGKILL);
  if (testing::Test::HasFailure()) fprintf(stderr, "%s\n", Log().c_str());
  std::error_code error;
  fs::remove_all(dir_, error);
}

void AgentProcess::Start(const std::vector<std::string>& more_flags) {
  std::vector<std::string> argv = {LIGER_WORKER,
                                   "--coordinator",
                                   coordinator_,
                                   "--data-dir",
                                   data_dir_,
                                   "--model-root",
                                   dir_ + "/models",
                                   "--dataset-root",
                                   dir_ + "/datasets",
                                   "--output-root",
                                   dir_ + "/outputs",
                                   "--trainer",
                                   LIGER_FAKE_TRAINER,
                                   "--metrics-listen",
                                   "127.0.0.1:0",
                                   "--inventory-interval",
                                   "0.2"};
  argv.insert(argv.end(), more_flags.begin(), more_flags.end());
  std::vector<char*> pointers;
  for (std::string& arg : argv) pointers.push_back(arg.data());
  pointers.push_back(nullptr);
  const std::string log = dir_ + "/worker.log";
  pid_ = fork();
  ASSERT_GE(pid_, 0);
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
}

void AgentProcess::Signal(int signal_number) { kill(pid_, signal_number); }

int AgentProcess::Wait() {
  int status = 0;
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (absl::Now() > deadline) {
      ADD_FAILURE() << "liger-worker does not end";
      Kill();
      return -1;
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
  pid_ = 0;
  return status;
}

void AgentProcess::Kill() {
  kill(pid_, SIGKILL);
  kill(pid_, SIGCONT);
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

std::string AgentProcess::Log() const {
  std::ifstream in(dir_ + "/worker.log");
  return std::string(std::istreambuf_iterator<char>(in), {});
}

std::vector<std::string> AgentProcess::Folders(const std::string& sub) const {
  std::vector<std::string> folders;
  std::error_code error;
  for (fs::directory_iterator it(dir_ + "/data/" + sub, error), end; !error && it != end; ++it) {
    folders.push_back(it->path().filename().string());
  }
  return folders;
}

std::vector<pid_t> AgentProcess::Trainers() const {
  std::vector<pid_t> pids;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc")) {
    pid_t pid;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    absl::StatusOr<std::string> environ = ReadFile((entry.path() / "environ").string());
    if (environ.ok() && absl::StrContains(*environ, "LIGER_ATTEMPT=" + dir_)) pids.push_back(pid);
  }
  return pids;
}

}  // namespace liger::agent
