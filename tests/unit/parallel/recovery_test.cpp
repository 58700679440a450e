// Ranks of two workers that do not see the same checkpoints go on from the newest one that both
// have, or begin again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/unit/loop/tiny_job.h"
#include "tests/unit/parallel/rank_processes.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

constexpr absl::Duration kLimit = absl::Minutes(4);  // of a busy machine

// By strategy. A first attempt has left checkpoints where rank 0 sees them.
class RecoveryTest : public testing::TestWithParam<const char*> {
 protected:
  // `data` and `training`: more of these parts of the job.
  void RunFirst(const std::string& data, const std::string& training) {
    job_.WriteFile("first.yaml",
                   "model: {name: " + job_.Path("model") + ", random_init: true}\n" +
                       "dataset: {uri: " + job_.Path("sft.jsonl") + data + "}\nsft: {}\n" +
                       Resources(2) + "parallel: {strategy: " + GetParam() + "}\n" +
                       "training: {max_length: 64, logging_steps: 1, deterministic: true, " +
                       "per_device_train_batch_size: 2, save_total_limit: 0" + training + "}\n");
    RankProcesses first(2, SpecArguments("first"), job_.Path("log"));
    ASSERT_THAT(first.Wait(kLimit), Each(kExitOk)) << first.Output(0) << first.Output(1);
    fs::create_directories(fs::path(Seen(1, 0)).parent_path());
  }
  // Of steps 2, 4 and 6.
  void RunFirst() { RunFirst("", ", max_steps: 6, save_steps: 2"); }

  std::string SpecArguments(const std::string& name) const {
    return "--spec " + job_.Path("first.yaml") + " --output " + job_.Path(name);
  }
  // Where a rank's worker has the checkpoint of a step.
  std::string Seen(int rank, int step) const {
    return job_.Path(rank == 0 ? "first.checkpoints" : "other/first.checkpoints") +
           "/checkpoint-" + std::to_string(step);
  }
  void GiveToRank1(int step) { fs::copy(Seen(0, step), Seen(1, step)); }

  // The next attempt, of which each rank has a launch file of its own worker, is of two hosts. The
  // coordinator knows of the checkpoint of step `newest`.
  RankProcesses NextAttempt(int newest) {
    for (int rank = 0; rank < 2; ++rank) {
      Request request =
          ReadSpec({.spec_path = job_.Path("first.yaml"), .output = job_.Path("next")});
      request.launch.set_version(1);
      request.launch.set_attempt_dir(job_.Path("attempt" + std::to_string(rank)));
      request.launch.set_resume_from(Seen(rank, newest));
      job_.WriteFile("launch" + std::to_string(rank), request.launch.SerializeAsString());
    }
    return RankProcesses(2, "--launch " + job_.Path("launch$RANK"), job_.Path("log"), two_hosts_);
  }
  // It has the result of the attempt that nothing disturbed, to the last bit.
  void ExpectGoesOnFrom(int step, const testing::Matcher<std::string>& says) {
    RankProcesses next = NextAttempt(6);
    ASSERT_THAT(next.Wait(kLimit), Each(kExitOk)) << next.Output(0) << next.Output(1);
    const std::string output = next.Output(0);
    EXPECT_THAT(output, says);
    EXPECT_THAT(output, HasSubstr("step " + std::to_string(step + 1) + "/"));
    if (step > 0) {
      EXPECT_THAT(output, Not(HasSubstr("step " + std::to_string(step) + "/")));
    }
    EXPECT_THAT(next.Output(1), Not(HasSubstr("warning"))) << "rank 0 speaks for the job";
    EXPECT_TRUE(ReadAll(job_.Path("attempt0/model/model.safetensors")) ==
                ReadAll(job_.Path("first/model.safetensors")));
  }

  const std::map<std::string, std::string> two_hosts_ =
      OnGpus() ? std::map<std::string, std::string>()
               : std::map<std::string, std::string>{{"LOCAL_RANK", "0"}, {"LOCAL_WORLD_SIZE", "1"}};
  const FilesInMemory in_memory_;
  const TinyJob job_;
};

constexpr char kRemedy[] = "all workers of a job must have one folder as their --output-root";

TEST_P(RecoveryTest, TheNewestThatBothSeeIsTaken) {
  RunFirst();
  GiveToRank1(2);
  ExpectGoesOnFrom(2, AllOf(HasSubstr("rank 1 on host "), HasSubstr("does not see " + Seen(1, 6)),
                            HasSubstr("nor from an older one"), HasSubstr(kRemedy)));
}

TEST_P(RecoveryTest, WithoutOneTheyBeginAgain) {
  RunFirst();
  ExpectGoesOnFrom(0, AllOf(HasSubstr("does not see " + Seen(1, 6)), HasSubstr(kRemedy),
                            HasSubstr("it starts again")));
}

TEST_P(RecoveryTest, AnotherCheckpointOfThatStepIsNotTheSame) {
  RunFirst();
  for (const int step : {2, 4, 6}) GiveToRank1(step);
  fs::remove_all(Seen(0, 6));
  std::ofstream(Seen(1, 4) + "/manifest.json", std::ios::app) << "\n";
  ExpectGoesOnFrom(2, AllOf(HasSubstr("rank 0 on host "), HasSubstr("does not see " + Seen(0, 6)),
                            HasSubstr("nor from an older one")));
}

TEST_P(RecoveryTest, ADamagedCopyOfOneHostIsNotTaken) {
  if (OnGpus()) GTEST_SKIP() << "GPUs of one host are not two hosts'";
  RunFirst();
  for (const int step : {4, 6}) GiveToRank1(step);
  std::fstream(Seen(1, 6) + "/rng_state.safetensors", std::ios::in | std::ios::out).seekp(900)
      << "!!";
  ExpectGoesOnFrom(4, AllOf(HasSubstr("rank 1 on host "),
                            HasSubstr(Seen(1, 6) + "/rng_state.safetensors differs")));
  EXPECT_TRUE(fs::exists(Seen(0, 6))) << "it is whole";
}

// What the user names must be there for all.
TEST_P(RecoveryTest, ANamedOneThatARankDoesNotSeeIsAnError) {
  RunFirst();
  GiveToRank1(2);
  fs::create_directory_symlink(job_.Path("first.checkpoints"), job_.Path("seen0"));
  fs::create_directory_symlink(job_.Path("other/first.checkpoints"), job_.Path("seen1"));
  const auto run = [&](const std::string& checkpoint) {
    RankProcesses named(2,
                        SpecArguments("named") + " --set training.resume_from_checkpoint=" +
                            job_.Path("seen$RANK/") + checkpoint,
                        job_.Path("log"), two_hosts_);
    EXPECT_THAT(named.Wait(kLimit), Each(kExitInvalidInput));
    return named.Output(0);
  };
  const std::string output = run("checkpoint-4");
  EXPECT_THAT(output, AllOf(HasSubstr("rank 1 on host "),
                            HasSubstr(job_.Path("seen1/checkpoint-4") + "' does not exist"),
                            HasSubstr("name a checkpoint in a folder that all workers see")));
  // The newest of a folder is another one here and there.
  EXPECT_THAT(run(""), AllOf(HasSubstr("rank 1 on host "), HasSubstr("sees another checkpoint, "),
                             HasSubstr(job_.Path("seen1/checkpoint-2, than rank 0, ")),
                             HasSubstr(job_.Path("seen0/checkpoint-6"))));
}

// ---- load_best_model_at_end ----

// Evaluated on answers that are not among those it trains on: what it learns helps at first, and
// then no more. Checkpoints of steps 10, 20 and 30, and of the best evaluation.
class BestModelRecoveryTest : public RecoveryTest {
 protected:
  void SetUp() override {
    std::string rows;
    for (const char* colour : {"0", "1", "2", "3"}) {
      rows += std::string(R"({"prompt": "colour )") + colour + R"(? ", "completion": "grey"})" "\n";
    }
    job_.WriteFile("other.jsonl", rows);
    RunFirst(", eval_uri: " + job_.Path("other.jsonl"),
             ", max_steps: 30, save_steps: 10, eval_steps: 5, learning_rate: 0.02, "
             "lr_scheduler_type: constant, load_best_model_at_end: true");
    std::istringstream lines(ReadAll(job_.Path("first/metrics.jsonl")));
    double least = 1e30;
    for (std::string line; std::getline(lines, line);) {
      const auto metrics = nlohmann::json::parse(line);
      if (!metrics.contains("eval_loss") || metrics["step"] == 0) continue;
      if (metrics["eval_loss"] >= least) continue;
      least = metrics["eval_loss"];
      best_ = metrics["step"];
    }
    ASSERT_GT(best_, 0);
    ASSERT_LT(best_, 20) << "nothing is better after the checkpoint";
  }
  bool TookTheBest() const {
    return ReadAll(job_.Path("attempt0/model/model.safetensors")) ==
           ReadAll(job_.Path("first/model.safetensors"));
  }

  int best_ = 0;
};

constexpr char kAnew[] = "the best model is looked for anew";

TEST_P(BestModelRecoveryTest, ItOutlivesAnAttempt) {
  for (const int step : {best_, 20}) GiveToRank1(step);
  RankProcesses next = NextAttempt(20);
  ASSERT_THAT(next.Wait(kLimit), Each(kExitOk)) << next.Output(0) << next.Output(1);
  EXPECT_THAT(next.Output(0), AllOf(HasSubstr("step 21/"), Not(HasSubstr("step 20/")),
                                    Not(HasSubstr("warning"))));
  EXPECT_TRUE(TookTheBest());
}

// Of one that holds the whole model rank 0 reads it; of shards each rank its own.
TEST_P(BestModelRecoveryTest, WhereAReaderDoesNotSeeItItIsLookedForAnew) {
  GiveToRank1(20);
  RankProcesses next = NextAttempt(20);
  ASSERT_THAT(next.Wait(kLimit), Each(kExitOk)) << next.Output(0) << next.Output(1);
  const bool shared = std::string(GetParam()) == "FSDP";
  EXPECT_THAT(next.Output(0), HasSubstr("step 21/"));
  EXPECT_EQ(next.Output(0).find(kAnew) != std::string::npos, shared) << next.Output(0);
  if (shared) {
    EXPECT_THAT(next.Output(0), HasSubstr("does not see " + Seen(1, best_)));
  }
  EXPECT_EQ(TookTheBest(), !shared);
}

TEST_P(BestModelRecoveryTest, ADamagedOneIsSetAside) {
  for (const int step : {best_, 20}) GiveToRank1(step);
  std::fstream(Seen(0, best_) + "/rng_state.safetensors", std::ios::in | std::ios::out).seekp(900)
      << "!!";
  RankProcesses next = NextAttempt(20);
  ASSERT_THAT(next.Wait(kLimit), Each(kExitOk)) << next.Output(0) << next.Output(1);
  EXPECT_THAT(next.Output(0),
              AllOf(HasSubstr("rng_state.safetensors differs"),
                    HasSubstr("it is now " + Seen(0, best_) + ".damaged"), HasSubstr(kAnew)));
  EXPECT_FALSE(TookTheBest());
}

INSTANTIATE_TEST_SUITE_P(, BestModelRecoveryTest, testing::Values("DDP", "FSDP"),
                         [](const auto& strategy) { return strategy.param; });
INSTANTIATE_TEST_SUITE_P(, RecoveryTest, testing::Values("DDP", "FSDP"),
                         [](const auto& strategy) { return strategy.param; });

}  // namespace
}  // namespace liger::trainer
