#include "tests/unit/parallel/rank_processes.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/paths.h"
#include "tests/unit/loop/tiny_job.h"

namespace liger::trainer {
namespace {

// One that is free now, and that nobody else is given for a while.
int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(fd, generic, size) != 0 || getsockname(fd, generic, &size) != 0) std::abort();
  close(fd);
  return ntohs(address.sin_port);
}

}  // namespace

std::string Resources(int count) {
  return absl::StrCat("resources: {device_kind: ", OnGpus() ? "CUDA" : "CPU", ", count: ", count,
                      "}\n");
}

int ManyRanks() {
  // With one GPU, the second rank says what it lacks.
  return OnGpus() ? std::clamp(GpusOfThisHost(), 2, 4) : 4;
}

FilesInMemory::FilesInMemory() {
  if (std::filesystem::exists("/dev/shm")) setenv("TMPDIR", "/dev/shm", 1);
}

std::vector<std::string> Losses(const std::string& out) {
  std::ifstream in(out + "/metrics.jsonl");
  std::vector<std::string> losses;
  for (std::string line; std::getline(in, line);) {
    const auto object = nlohmann::json::parse(line);
    if (!object.contains("loss")) continue;
    losses.push_back(object["step"].dump() + " " + object["loss"].dump());
  }
  return losses;
}

RankProcesses::RankProcesses(int world_size, const std::string& arguments,
                             const std::string& log_prefix,
                             const std::map<std::string, std::string>& environment) {
  const std::string port = std::to_string(FreePort()), world = std::to_string(world_size);
  for (int rank = 0; rank < world_size; ++rank) {
    Child& child = children_.emplace_back();
    child.log = log_prefix + std::to_string(rank);
    const std::string command =
        absl::StrCat("exec ", BinDir(), "/liger-trainer ", arguments, " >", child.log, " 2>&1");
    child.pid = fork();
    if (child.pid != 0) continue;
    setenv("RANK", std::to_string(rank).c_str(), 1);
    setenv("LOCAL_RANK", std::to_string(rank).c_str(), 1);
    setenv("WORLD_SIZE", world.c_str(), 1);
    setenv("LOCAL_WORLD_SIZE", world.c_str(), 1);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    setenv("MASTER_PORT", port.c_str(), 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    setenv("LIGER_DATA_CACHE", "off", 1);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
}

RankProcesses::~RankProcesses() {
  for (const Child& child : children_) {
    if (child.status) continue;
    kill(child.pid, SIGKILL);
    waitpid(child.pid, nullptr, 0);
  }
}

int RankProcesses::WaitFor(int rank, absl::Duration limit) {
  const absl::Time end = absl::Now() + limit;
  Child& child = children_.at(rank);
  while (!child.status) {
    int status = 0;
    if (waitpid(child.pid, &status, WNOHANG) == child.pid) {
      child.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    } else if (absl::Now() > end) {
      return -1000;
    } else {
      absl::SleepFor(absl::Milliseconds(10));
    }
  }
  return *child.status;
}

std::vector<int> RankProcesses::Wait(absl::Duration limit) {
  const absl::Time end = absl::Now() + limit;
  std::vector<int> codes;
  for (size_t rank = 0; rank < children_.size(); ++rank) {
    codes.push_back(WaitFor(static_cast<int>(rank), end - absl::Now()));
  }
  return codes;
}

void RankProcesses::Signal(int rank, int signal) const { kill(children_.at(rank).pid, signal); }

std::string RankProcesses::Output(int rank) const { return ReadAll(children_.at(rank).log); }

bool RankProcesses::AwaitOutput(int rank, const std::string& text, absl::Duration limit) const {
  const absl::Time end = absl::Now() + limit;
  while (Output(rank).find(text) == std::string::npos) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

}  // namespace liger::trainer
