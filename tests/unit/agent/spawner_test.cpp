#include "worker/agent/spawner.h"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "worker/agent/process.h"
#include "common/unique_fd.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;

class SpawnerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "spawn-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    log_.reset(open((dir_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  }
  void TearDown() override { fs::remove_all(dir_); }

  SpawnRequest Shell(const std::string& script) {
    SpawnRequest request;
    request.argv = {"/bin/sh", "-c", script};
    request.env = {{"PATH", "/usr/bin:/bin"}, {kMarkVariable, dir_}};
    request.working_dir = dir_;
    request.log_fd = log_.get();
    return request;
  }
  std::string RunShell(const std::string& script) {
    auto process = spawner_.Spawn(Shell(script));
    EXPECT_TRUE(process.ok()) << process.status();
    int status;
    waitpid(process->pid, &status, 0);
    return ReadFile(dir_ + "/log").value();
  }

  std::string dir_;
  UniqueFd log_;
  Spawner spawner_;
};

TEST_F(SpawnerTest, GivesTheChildItsEnvironmentFolderAndLog) {
  EXPECT_EQ(RunShell("pwd; echo $LIGER_ATTEMPT; echo oops >&2; env | wc -l"),
            absl::StrCat(dir_, "\n", dir_, "\noops\n3\n"));  // PWD is the shell's
}

TEST_F(SpawnerTest, LeaksNoDescriptor) {
  // One without O_CLOEXEC, as a library might open.
  UniqueFd leaky(open("/dev/null", O_RDONLY));
  EXPECT_EQ(RunShell("ls /proc/self/fd | wc -l"), "4\n");  // 0, 1, 2 and ls's own
}

TEST_F(SpawnerTest, PassesTheDescriptorsItIsTold) {
  UniqueFd file(open((dir_ + "/out").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  SpawnRequest request = Shell(absl::StrCat("echo hello >&", file.get()));
  request.pass_fds = {file.get()};
  auto process = spawner_.Spawn(request);
  ASSERT_TRUE(process.ok());
  waitpid(process->pid, nullptr, 0);
  EXPECT_EQ(ReadFile(dir_ + "/out").value(), "hello\n");
}

TEST_F(SpawnerTest, TheChildLeadsItsOwnSession) {
  auto process = spawner_.Spawn(Shell("sleep 60"));
  ASSERT_TRUE(process.ok());
  EXPECT_EQ(getsid(process->pid), process->pid);
  EXPECT_TRUE(IsRunning(*process));
  EXPECT_FALSE(IsRunning({process->pid, process->start_ticks + 1})) << "a reused pid";
  kill(process->pid, SIGKILL);
  waitpid(process->pid, nullptr, 0);
  EXPECT_FALSE(IsRunning(*process));
}

TEST_F(SpawnerTest, SaysWhatItCouldNotStart) {
  SpawnRequest request = Shell("");
  request.argv = {dir_ + "/no-such-program"};
  auto process = spawner_.Spawn(request);
  EXPECT_TRUE(absl::IsNotFound(process.status()));
  EXPECT_THAT(std::string(process.status().message()), testing::HasSubstr("no-such-program"));
}

TEST_F(SpawnerTest, ChildrenDieWithTheSpawner) {
  ProcessId process;
  {
    Spawner mortal;
    process = *mortal.Spawn(Shell("sleep 60"));
  }
  int status = 0;
  ASSERT_EQ(waitpid(process.pid, &status, 0), process.pid);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST_F(SpawnerTest, KillTreeFindsWhatLeftTheSession) {
  auto process = spawner_.Spawn(Shell("setsid sleep 60 & setsid sleep 60 & sleep 60"));
  ASSERT_TRUE(process.ok());
  for (int i = 0; i < 500 && FindMarked(dir_).size() < 4; ++i)
    absl::SleepFor(absl::Milliseconds(10));
  ASSERT_EQ(FindMarked(dir_).size(), 4u);
  std::thread reaper([&] { waitpid(process->pid, nullptr, 0); });
  EXPECT_TRUE(KillTree({*process}, dir_, absl::Seconds(5)));
  reaper.join();
  EXPECT_TRUE(FindMarked(dir_).empty());
}

}  // namespace
}  // namespace liger::agent
