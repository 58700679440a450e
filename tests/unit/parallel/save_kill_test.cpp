// Runs that are killed while they save: what is there is whole, and they go on from it. How often
// is LIGER_SAVE_KILLS: 50 in `make test-long`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>
#include <set>
#include <vector>

#include "absl/time/clock.h"
#include "common/checkpoints.h"
#include "tests/unit/loop/tiny_job.h"
#include "tests/unit/parallel/rank_processes.h"
#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::Each;
using testing::HasSubstr;
namespace fs = std::filesystem;

constexpr absl::Duration kLimit = absl::Minutes(4);  // of a busy machine

int Kills(int usual) {
  const char* text = std::getenv("LIGER_SAVE_KILLS");
  return text == nullptr ? usual : std::atoi(text);
}

class SaveKillTest : public testing::Test {
 protected:
  std::string Arguments(int ranks, int steps, const std::string& out,
                        const std::string& more) const {
    job_.WriteFile(out + ".yaml",
                   "model: {name: " + job_.Path("model") + ", random_init: true}\n" +
                       "dataset: {uri: " + job_.Path("sft.jsonl") + "}\nsft: {}\n" +
                       Resources(ranks) + "parallel: {strategy: " + strategy_ + "}\n" +
                       "training: {max_length: 64, logging_steps: 1, deterministic: true, " +
                       "per_device_train_batch_size: 1, max_steps: " + std::to_string(steps) +
                       more + "}\n");
    return "--spec " + job_.Path(out + ".yaml") + " --output " + job_.Path(out);
  }
  // Hidden folders among the checkpoints, in which they are written.
  std::set<std::string> BeingWritten() const {
    std::set<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(job_.Path("out.checkpoints"), error), end; !error && it != end;
         it.increment(error)) {
      const std::string name = it->path().filename();
      if (name.starts_with(".checkpoint-")) names.insert(name);
    }
    return names;
  }
  int64_t NewestStep() const {
    int64_t newest = 0;
    std::error_code error;
    for (fs::directory_iterator it(job_.Path("out.checkpoints"), error), end; !error && it != end;
         it.increment(error)) {
      newest = std::max(newest, CheckpointStep(it->path().filename().string()).value_or(0));
    }
    return newest;
  }
  // The three that the limit keeps: an older one may be half removed.
  int RequireWholeCheckpoints() const {
    std::vector<int64_t> steps;
    for (const auto& entry : fs::directory_iterator(job_.Path("out.checkpoints"))) {
      const auto step = CheckpointStep(entry.path().filename().string());
      if (step.has_value()) steps.push_back(*step);
    }
    std::sort(steps.rbegin(), steps.rend());
    if (steps.size() > 3) steps.resize(3);
    for (const int64_t step : steps) {
      EXPECT_NO_THROW(VerifyManifest(job_.Path("out.checkpoints/" + CheckpointName(step)))) << step;
    }
    return static_cast<int>(steps.size());
  }
  // Of `ranks` ranks, one of which is killed so many times.
  void KillAndCompare(const std::string& strategy, int ranks, int kills) {
    strategy_ = strategy;
    const int steps = 40 * kills + 40;  // so that it does not end before it is killed
    RankProcesses undisturbed(ranks, Arguments(ranks, steps, "whole", ""), job_.Path("whole.log"));
    ASSERT_THAT(undisturbed.Wait(kLimit), Each(kExitOk)) << undisturbed.Output(0);
    std::mt19937 random(1);
    const auto draw = [&](int most) { return std::uniform_int_distribution<int>(0, most)(random); };
    int in_the_middle = 0;
    const std::string saves = ", save_steps: 1, save_total_limit: 3";
    std::string from;
    for (int i = 0; i < kills; ++i) {
      RankProcesses run(ranks, Arguments(ranks, steps, "out", saves + from), job_.Path("log"));
      // It is killed in one of its first saves, or near it.
      const int64_t wanted = NewestStep() + draw(4) + 1;
      const absl::Time deadline = absl::Now() + kLimit;
      while (NewestStep() < wanted && absl::Now() < deadline) {
        absl::SleepFor(absl::Microseconds(200));
      }
      ASSERT_GE(NewestStep(), wanted) << run.Output(0);
      if (i % 2 == 0) {
        while (BeingWritten().empty() && absl::Now() < deadline) {
        }
        ASSERT_LT(absl::Now(), deadline) << run.Output(0);
        absl::SleepFor(absl::Microseconds(draw(500)));
      } else {
        absl::SleepFor(absl::Microseconds(draw(5000)));
      }
      const int killed = draw(ranks - 1);
      run.Signal(killed, SIGKILL);
      std::vector<int> codes(ranks, kExitFailed);
      codes[killed] = -SIGKILL;
      EXPECT_EQ(run.Wait(kGangEndsIn), codes);
      for (int rank = 0; rank < ranks; ++rank) {
        if (rank == killed) continue;
        EXPECT_THAT(run.Output(rank), HasSubstr("rank " + std::to_string(killed) + " is lost"));
      }
      in_the_middle += !BeingWritten().empty();
      if (RequireWholeCheckpoints() > 0) {
        from = ", resume_from_checkpoint: " + job_.Path("out.checkpoints");
      }
    }
    EXPECT_GT(in_the_middle, kills < 20 ? -1 : 0);
    std::cout << in_the_middle << " of " << kills << " kills left a checkpoint half written\n";
    RankProcesses last(ranks, Arguments(ranks, steps, "out", saves + from), job_.Path("log"));
    ASSERT_THAT(last.Wait(kLimit), Each(kExitOk)) << last.Output(0);
    EXPECT_EQ(Losses(job_.Path("out")).size(), static_cast<size_t>(steps));
    EXPECT_EQ(Losses(job_.Path("out")), Losses(job_.Path("whole")));
    EXPECT_TRUE(ReadAll(job_.Path("out/model.safetensors")) ==
                ReadAll(job_.Path("whole/model.safetensors")));
    EXPECT_THAT(BeingWritten(), testing::IsEmpty()) << "what was half written";
    EXPECT_EQ(RequireWholeCheckpoints(), 3);
  }

  const FilesInMemory in_memory_;
  const TinyJob job_;
  std::string strategy_;
};

TEST_F(SaveKillTest, OneDevice) { KillAndCompare("SINGLE", 1, Kills(4)); }
TEST_F(SaveKillTest, ARankOfTwoOfWhichOneSaves) { KillAndCompare("DDP", 2, Kills(2)); }
TEST_F(SaveKillTest, ARankOfTwoThatSaveTheirShards) { KillAndCompare("FSDP", 2, Kills(2)); }

}  // namespace
}  // namespace liger::trainer
