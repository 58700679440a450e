#ifndef LIGER_TESTS_UNIT_LOOP_TRAINER_PROGRAM_H_
#define LIGER_TESTS_UNIT_LOOP_TRAINER_PROGRAM_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/paths.h"
#include "tests/unit/loop/tiny_job.h"

namespace liger::trainer {

// A running shell command line; killed at the end when it still runs.
class Process {
 public:
  // `inherit` stay open in the child.
  Process(const std::string& command, const std::vector<int>& inherit) {
    pid_ = fork();
    if (pid_ == 0) {
      for (int fd : inherit) fcntl(fd, F_SETFD, 0);
      execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      _exit(127);
    }
  }
  ~Process() {
    if (!status_) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  // Exit code, or -signal; nullopt when it still runs at the limit.
  std::optional<int> Wait(absl::Duration limit) {
    const absl::Time end = absl::Now() + limit;
    int status = 0;
    while (waitpid(pid_, &status, WNOHANG) == 0) {
      if (absl::Now() > end) return std::nullopt;
      absl::SleepFor(absl::Milliseconds(10));
    }
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return status_;
  }

 private:
  pid_t pid_;
  std::optional<int> status_;
};

// The real liger-trainer, on a tiny job.
class TrainerProgramTest : public testing::Test {
 protected:
  static std::string Trainer() { return BinDir() + "/liger-trainer"; }

  // A test that wants one names its folder.
  TrainerProgramTest() { setenv("LIGER_DATA_CACHE", "off", 1); }

  // Runs to the end; the output is in output().
  int Execute(const std::string& arguments, const std::string& before = "",
              const std::string& program = Trainer()) {
    Process process(before + "exec " + program + " " + arguments + " >" + Log() + " 2>&1", {});
    return process.Wait(absl::Seconds(120)).value_or(-1000);
  }
  std::string Log() const { return job_.Path("log"); }
  std::string output() const { return ReadAll(Log()); }
  std::string WriteJob(const std::string& training) {
    job_.WriteFile("job.yaml",
                   "model: {name: " + job_.Path("model") +
                       ", random_init: true}\ndataset: {uri: " + job_.Path("sft.jsonl") +
                       ", eval_fraction: 0.25}\nsft: {}\ntraining: {max_length: 64, " + training +
                       "}\n");
    return "--spec " + job_.Path("job.yaml") + " --output " + job_.Path("out");
  }
  std::vector<std::string> Leftovers() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(job_.dir())) {
      const std::string name = entry.path().filename();
      if (name.starts_with("out")) names.push_back(name);
    }
    return names;
  }

  TinyJob job_;
};

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_LOOP_TRAINER_PROGRAM_H_
