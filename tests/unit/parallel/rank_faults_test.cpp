// A rank of two is killed, stopped, held up or fails: the other one ends in time, says why, and
// leaves nothing behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "tests/unit/loop/tiny_job.h"
#include "tests/unit/parallel/rank_processes.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

class RankFaultsTest : public testing::Test {
 protected:
  // Two ranks of a job that would go on for long, once they train.
  void Start(const std::map<std::string, std::string>& environment = {}) {
    job_.WriteFile("job.yaml", "model: {name: " + job_.Path("model") + ", random_init: true}\n" +
                                   "dataset: {uri: " + job_.Path("sft.jsonl") + "}\nsft: {}\n" +
                                   Resources(2) +
                                   "training: {max_length: 64, logging_steps: 1, "
                                   "max_steps: 1000000, per_device_train_batch_size: 2}\n");
    processes_.emplace(2, "--spec " + job_.Path("job.yaml") + " --output " + job_.Path("out"),
                       job_.Path("log"), environment);
    ASSERT_TRUE(processes_->AwaitOutput(0, "step 3/", absl::Minutes(3))) << processes_->Output(0);
  }

  TinyJob job_;
  std::optional<RankProcesses> processes_;
};

TEST_F(RankFaultsTest, AKilledRankIsNamed) {
  Start();
  processes_->Signal(1, SIGKILL);
  EXPECT_THAT(processes_->Wait(absl::Minutes(1)), testing::ElementsAre(kExitFailed, -SIGKILL));
  EXPECT_THAT(processes_->Output(0),
              AllOf(HasSubstr("error: rank 1 is lost"), HasSubstr("the attempt is run again")));
  EXPECT_FALSE(std::filesystem::exists(job_.Path("out")));
}

TEST_F(RankFaultsTest, AKilledRank0IsNamed) {
  Start();
  processes_->Signal(0, SIGKILL);
  EXPECT_THAT(processes_->Wait(absl::Minutes(1)), testing::ElementsAre(-SIGKILL, kExitFailed));
  EXPECT_THAT(processes_->Output(1), HasSubstr("rank 1: error: rank 0 is lost"));
}

TEST_F(RankFaultsTest, ARankThatIsHeldUpIsNamed) {
  Start({{"LIGER_PEER_TIMEOUT", "8"}});
  processes_->Signal(1, SIGSTOP);
  EXPECT_EQ(processes_->WaitFor(0, absl::Minutes(1)), kExitFailed);
  EXPECT_THAT(processes_->Output(0),
              AllOf(HasSubstr("rank 1 is lost: it has given no sign of life"),
                    HasSubstr("while rank 0 waited for")));
}

TEST_F(RankFaultsTest, OneStopIsEverybodys) {
  Start();
  processes_->Signal(1, SIGINT);
  EXPECT_THAT(processes_->Wait(absl::Minutes(1)), Each(kExitStopped));
  EXPECT_THAT(processes_->Output(0), HasSubstr("stopped: "));
}

}  // namespace
}  // namespace liger::trainer
