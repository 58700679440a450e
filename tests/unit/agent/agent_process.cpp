#include "tests/unit/agent/agent_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
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
                                   "--inventory-interval",
                                   "0.2"};
  argv.insert(argv.end(), more_flags.begin(), more_flags.end());
  if (std::find(argv.begin(), argv.end(), "--metrics-listen") == argv.end()) {
    argv.insert(argv.end(), {"--metrics-listen", "127.0.0.1:0"});
  }
  std::vector<char*> pointers;
  for (std::string& arg : argv) pointers.push_back(arg.data());
  pointers.push_back(nullptr);
  const std::string log = dir_ + "/worker.log";
  pid_ = fork();
  ASSERT_GE(pid_, 0);
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGXFSZ, SIG_IGN);  // FillDisk: an error, not the end
    const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    for (const auto& [name, value] : variables_) setenv(name.c_str(), value.c_str(), 1);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
}

void AgentProcess::Signal(int signal_number) { kill(pid_, signal_number); }

void AgentProcess::FillDisk() {
  const rlimit none{0, 0};
  ASSERT_EQ(prlimit(pid_, RLIMIT_FSIZE, &none, nullptr), 0);
}

std::string AgentProcess::HttpGet(const std::string& path) const {
  const std::string log = Log();
  const std::string port_line = "metrics and health on port ";
  const size_t found = log.rfind(port_line);
  if (found == std::string::npos) return "no port in the log";
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(atoi(log.c_str() + found + port_line.size())));
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::string answer;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\n\r\n");
    EXPECT_EQ(send(fd, request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
    char piece[4096];
    for (ssize_t n; (n = read(fd, piece, sizeof(piece))) > 0;) {
      answer.append(piece, static_cast<size_t>(n));
    }
  }
  close(fd);
  return answer;
}

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
