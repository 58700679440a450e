// Jobs of several ranks with the whole model each: what they leave is what one device leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/unit/parallel/rank_jobs.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

class ParallelTest : public RankJobs {};

TEST_F(ParallelTest, TwoRanksAreOneDevice) {
  Run(1, Arguments("sft", "sft.jsonl", 1, "one", ", max_steps: 6"));
  Run(2, Arguments("sft", "sft.jsonl", 2, "two", ", max_steps: 6"));
  EXPECT_GT(Metrics("two").size(), 6u);
  ExpectSameRun("two", "one");
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

TEST_F(ParallelTest, FourRanksOfKtoAreOneDevice) {
  Run(1, Arguments("kto", "labelled.jsonl", 1, "one", ", max_steps: 4"));
  Run(many_, Arguments("kto", "labelled.jsonl", many_, "four", ", max_steps: 4"));
  ExpectSameRun("four", "one");
}

TEST_F(ParallelTest, ARunGoesOnOnAnotherNumberOfRanks) {
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "whole", ", max_steps: 6"));
  // The same bits need the same library for products in each process.
  const std::string exactly = ", deterministic: true";
  Run(many_, Arguments("dpo", "pairs.jsonl", many_, "part",
                       ", max_steps: 6, save_steps: 3, save_total_limit: 2" + exactly));
  ExpectSameRun("part", "whole");
  const std::string from =
      ", max_steps: 6, resume_from_checkpoint: " + job_.Path("part.checkpoints/checkpoint-3");
  Run(many_, Arguments("dpo", "pairs.jsonl", many_, "same", from + exactly));
  EXPECT_TRUE(ReadAll(job_.Path("same/model.safetensors")) ==
              ReadAll(job_.Path("part/model.safetensors")))
      << "on as many ranks a run goes on to the last bit";
  EXPECT_EQ(Losses(job_.Path("same")), Losses(job_.Path("part")));
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "other", from));
  ExpectSameRun("other", "whole");
}

// SIGTERM to one rank is a pause of all after the same step, from which they go on.
TEST_F(ParallelTest, OnePauseIsEverybodysAndTheRunGoesOnToTheLastBit) {
  const std::string more = ", max_steps: 120, save_steps: 120, deterministic: true";
  Run(2, Arguments("sft", "sft.jsonl", 2, "whole", more));
  RankProcesses part(2, Arguments("sft", "sft.jsonl", 2, "part", more), job_.Path("part-log"));
  ASSERT_TRUE(part.AwaitOutput(0, "step 3/", kLimit)) << part.Output(0);
  part.Signal(1, SIGTERM);
  ASSERT_THAT(part.Wait(kLimit), Each(kExitPaused)) << part.Output(0) << part.Output(1);
  EXPECT_FALSE(fs::exists(job_.Path("part")));
  const std::string output = part.Output(1), said = "paused after step ";
  const size_t at = output.find(said);
  ASSERT_NE(at, std::string::npos) << output;
  const std::string step = output.substr(at + said.size(), output.find(';', at) - at - said.size());
  EXPECT_THAT(part.Output(0), HasSubstr(said + step + ";"));
  Run(2, Arguments("sft", "sft.jsonl", 2, "part",
                   more + ", resume_from_checkpoint: " +
                       job_.Path("part.checkpoints/checkpoint-" + step)));
  ExpectSameMetrics("part", "whole");
  for (const char* file : {"/model.safetensors", "/optimizer.safetensors"}) {
    const std::string last = std::string(".checkpoints/checkpoint-120") + file;
    EXPECT_TRUE(ReadAll(job_.Path("part" + last)) == ReadAll(job_.Path("whole" + last))) << file;
  }
}

// Every other row is long, and they are all one rank's. Steps enough for 20 in a row in which
// nothing else holds up the other rank.
TEST_F(ParallelTest, ARankThatAllOthersWaitForIsAWarning) {
  if (OnGpus()) GTEST_SKIP() << "a GPU takes a thousand tokens of this model as soon as four";
  std::string rows;
  for (int row = 0; row < 64; ++row) {
    rows += "{\"prompt\": \"a\", \"completion\": \"" + std::string(row % 2 == 0 ? 4 : 1000, 'b') +
            "\"}\n";
  }
  job_.WriteFile("uneven.jsonl", rows);
  job_.WriteFile("job.yaml", "model: {name: " + job_.Path("model") + ", random_init: true}\n" +
                                 "dataset: {uri: " + job_.Path("uneven.jsonl") +
                                 ", shuffle: false}\nsft: {}\n" + Resources(2) +
                                 "training: {max_length: 1024, logging_steps: 10, "
                                 "max_steps: 50, per_device_train_batch_size: 1}\n");
  RankProcesses processes(2, "--spec " + job_.Path("job.yaml") + " --output " + job_.Path("out"),
                          job_.Path("log"));
  ASSERT_THAT(processes.Wait(kLimit), Each(kExitOk)) << processes.Output(0);
  EXPECT_THAT(processes.Output(0), HasSubstr("warning: rank 1 works "));
  EXPECT_THAT(processes.Output(0), Not(HasSubstr("warning: rank 0 works ")));
}

TEST_F(ParallelTest, TheRanksMustBeTheJobs) {
  RankProcesses processes(2, Arguments("sft", "sft.jsonl", 4, "out"), job_.Path("log"));
  EXPECT_THAT(processes.Wait(kLimit), Each(kExitInvalidInput));
  EXPECT_THAT(processes.Output(1), AllOf(HasSubstr("resources.count: is 4, and WORLD_SIZE is 2"),
                                         HasSubstr("--nproc-per-node 4")));
}

TEST_F(ParallelTest, RanksOfDifferentJobsAreRefused) {
  RankProcesses processes(2, Arguments("sft", "sft.jsonl", 2, "out") + " --set training.seed=$RANK",
                          job_.Path("log"));
  EXPECT_THAT(processes.Wait(kLimit), Each(kExitInvalidInput));
  EXPECT_THAT(processes.Output(0), HasSubstr("rank 1 differs from rank 0 in the job's spec"));
}

// Each process may keep a map in another order.
TEST_F(ParallelTest, TheOrderOfLabelsAndRolesIsNoDifference) {
  std::string maps;
  for (const char* key : {"a", "b", "c", "d", "e", "f", "g", "h"}) {
    maps += absl::StrCat(" --set labels.", key, "=x --set dataset.roles.", key, "=user");
  }
  Run(2, Arguments("sft", "sft.jsonl", 2, "maps", ", max_steps: 1") + maps);
}

// ---- Sequence parallelism ----

TEST_F(ParallelTest, RanksWithPartsOfTheTokensAreOneDevice) {
  const std::string more = ", max_steps: 6, sample_prompts: [ab]";
  Run(1, Arguments("sft", "sft.jsonl", 1, "one", more));
  Run(2, Arguments("sft", "sft.jsonl", 2, "two", more) + Sequence(2, 2));
  EXPECT_GT(Metrics("two").size(), 6u);
  ExpectSameRun("two", "one");
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

TEST_F(ParallelTest, HeadsThatRanksCannotShareAreRefused) {
  if (OnGpus() && GpusOfThisHost() < 3) GTEST_SKIP() << "needs three GPUs";
  RankProcesses processes(3,
                          Arguments("sft", "sft.jsonl", 3, "out") +
                              " --set parallel.sequence_parallel_size=3",
                          job_.Path("log"));
  EXPECT_THAT(processes.Wait(kLimit), Each(kExitInvalidInput));
  EXPECT_THAT(processes.Output(0),
              AllOf(HasSubstr("sequence_parallel_size: 3 does not divide the 4 query heads"),
                    HasSubstr("use one of 1, 2, 4")));
}

}  // namespace
}  // namespace liger::trainer
