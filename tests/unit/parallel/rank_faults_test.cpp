// A rank of two is killed, frozen or stopped, under each strategy: the other one ends in time, says
// why, and leaves nothing behind; the next attempt gives what an undisturbed run gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "tests/unit/loop/tiny_job.h"
#include "tests/unit/parallel/rank_processes.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

constexpr absl::Duration kLimit = absl::Minutes(4);  // of a busy machine

class RankFaultsTest : public testing::TestWithParam<const char*> {
 protected:
  std::string Arguments(const std::string& out, const std::string& from = "") const {
    job_.WriteFile(out + ".yaml",
                   "model: {name: " + job_.Path("model") + ", random_init: true}\n" +
                       "dataset: {uri: " + job_.Path("sft.jsonl") + "}\nsft: {}\n" + Resources(2) +
                       "parallel: {strategy: " + GetParam() + "}\n" +
                       "training: {max_length: 64, logging_steps: 1, deterministic: true, " +
                       "max_steps: 150, save_steps: 10, save_total_limit: 2, " +
                       "per_device_train_batch_size: 2" + from + "}\n");
    return "--spec " + job_.Path(out + ".yaml") + " --output " + job_.Path(out);
  }
  // Two ranks, until there is something to go on from.
  void Start(const std::map<std::string, std::string>& environment = {}) {
    processes_.emplace(2, Arguments("out"), job_.Path("log"), environment);
    const absl::Time end = absl::Now() + kLimit;
    while (!fs::exists(job_.Path("out.checkpoints/checkpoint-10")) && absl::Now() < end) {
      absl::SleepFor(absl::Milliseconds(5));
    }
    ASSERT_LT(absl::Now(), end) << processes_->Output(0);
  }
  struct Result {
    std::vector<std::string> losses;
    std::string model;
  };
  // Of one run of each strategy.
  const Result& Undisturbed() const {
    static std::map<std::string, Result> results;
    Result& result = results[GetParam()];
    if (!result.losses.empty()) return result;
    RankProcesses whole(2, Arguments("whole"), job_.Path("whole.log"));
    EXPECT_THAT(whole.Wait(kLimit), Each(kExitOk)) << whole.Output(0);
    return result = {Losses(job_.Path("whole")), ReadAll(job_.Path("whole/model.safetensors"))};
  }
  void ExpectNextAttemptIsUndisturbed() {
    EXPECT_FALSE(fs::exists(job_.Path("out")));
    processes_.reset();  // what is frozen
    RankProcesses next(
        2, Arguments("out", ", resume_from_checkpoint: " + job_.Path("out.checkpoints")),
        job_.Path("next.log"));
    ASSERT_THAT(next.Wait(kLimit), Each(kExitOk)) << next.Output(0);
    EXPECT_THAT(next.Output(0), Not(HasSubstr("step 1/"))) << "it goes on from a checkpoint";
    const Result& whole = Undisturbed();
    EXPECT_EQ(whole.losses.size(), 150u);
    EXPECT_EQ(Losses(job_.Path("out")), whole.losses);
    EXPECT_TRUE(ReadAll(job_.Path("out/model.safetensors")) == whole.model);
  }

  const FilesInMemory in_memory_;
  const TinyJob job_;
  std::optional<RankProcesses> processes_;
};

TEST_P(RankFaultsTest, AKilledRankIsNamed) {
  Start();
  processes_->Signal(1, SIGKILL);
  EXPECT_THAT(processes_->Wait(kGangEndsIn), ElementsAre(kExitFailed, -SIGKILL));
  EXPECT_THAT(processes_->Output(0),
              AllOf(HasSubstr("error: rank 1 is lost"), HasSubstr("the attempt is run again")));
  ExpectNextAttemptIsUndisturbed();
}

TEST_P(RankFaultsTest, AKilledRank0IsNamed) {
  Start();
  processes_->Signal(0, SIGKILL);
  EXPECT_THAT(processes_->Wait(kGangEndsIn), ElementsAre(-SIGKILL, kExitFailed));
  EXPECT_THAT(processes_->Output(1), HasSubstr("rank 1: error: rank 0 is lost"));
  ExpectNextAttemptIsUndisturbed();
}

TEST_P(RankFaultsTest, AFrozenRankIsNamed) {
  Start({{"LIGER_PEER_TIMEOUT", "8"}});
  processes_->Signal(1, SIGSTOP);
  EXPECT_EQ(processes_->WaitFor(0, kGangEndsIn), kExitFailed);
  EXPECT_THAT(processes_->Output(0),
              AllOf(HasSubstr("rank 1 is lost: it has given no sign of life"),
                    HasSubstr("while rank 0 waited for")));
  ExpectNextAttemptIsUndisturbed();
}

TEST_P(RankFaultsTest, AFrozenRank0IsNamed) {
  Start({{"LIGER_PEER_TIMEOUT", "8"}});
  processes_->Signal(0, SIGSTOP);
  EXPECT_EQ(processes_->WaitFor(1, kGangEndsIn), kExitFailed);
  EXPECT_THAT(processes_->Output(1), HasSubstr("rank 1: error: rank 0 is lost"));
  ExpectNextAttemptIsUndisturbed();
}

TEST_P(RankFaultsTest, OneStopIsEverybodys) {
  Start();
  processes_->Signal(1, SIGINT);
  EXPECT_THAT(processes_->Wait(kGangEndsIn), Each(kExitStopped));
  EXPECT_THAT(processes_->Output(0), HasSubstr("stopped: "));
  ExpectNextAttemptIsUndisturbed();
}

INSTANTIATE_TEST_SUITE_P(, RankFaultsTest, testing::Values("DDP", "FSDP"),
                         [](const auto& strategy) { return strategy.param; });

}  // namespace
}  // namespace liger::trainer
