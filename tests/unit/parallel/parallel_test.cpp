// Jobs of several ranks through the program: what they leave is what one device leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "tests/unit/loop/tiny_job.h"
#include "tests/unit/parallel/rank_processes.h"
#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/checkpoint/safetensors.h"
#include "worker/trainer/checkpoint/saved_tensors.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/strategy_choice.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

constexpr absl::Duration kLimit = absl::Minutes(4);  // of a busy machine

class ParallelTest : public testing::Test {
 protected:
  // Of `ranks` ranks that take 4 rows a micro-batch together.
  std::string Arguments(const std::string& method, const std::string& data, int ranks,
                        const std::string& out, const std::string& more = "") {
    job_.WriteFile(out + ".yaml",
                   "model: {name: " + job_.Path("model") + ", random_init: true}\n" +
                       "dataset: {uri: " + job_.Path(data) + ", eval_fraction: 0.25}\n" + method +
                       ": {}\n" + Resources(ranks) + "training: " +
                       "{max_length: 64, precision: FP32, learning_rate: 1e-3, logging_steps: 1, "
                       "eval_steps: 3, " +
                       "gradient_accumulation_steps: 2, per_device_train_batch_size: " +
                       std::to_string(4 / ranks) +
                       ", per_device_eval_batch_size: " + std::to_string(4 / ranks) + more + "}\n");
    return "--spec " + job_.Path(out + ".yaml") + " --output " + job_.Path(out);
  }
  void Run(int ranks, const std::string& arguments) {
    RankProcesses processes(ranks, arguments, job_.Path("log"));
    ASSERT_THAT(processes.Wait(kLimit), Each(kExitOk))
        << processes.Output(0) << processes.Output(ranks - 1);
  }
  std::vector<nlohmann::json> Metrics(const std::string& out) const {
    std::istringstream in(ReadAll(job_.Path(out + "/metrics.jsonl")));
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
  void ExpectSameMetrics(const std::string& actual, const std::string& expected) const {
    const auto a = Metrics(actual), e = Metrics(expected);
    ASSERT_EQ(a.size(), e.size());
    for (size_t i = 0; i < e.size(); ++i) {
      for (const char* name : {"loss", "grad_norm", "learning_rate", "epoch", "num_tokens",
                               "entropy", "eval_loss", "rewards/chosen", "kl"}) {
        if (!e[i].contains(name)) continue;
        const double value = e[i][name];
        ASSERT_TRUE(a[i].contains(name)) << name;
        EXPECT_NEAR(a[i][name].get<double>(), value, 1e-5 * std::max(1.0, std::abs(value)))
            << name << " in line " << i;
      }
    }
  }
  void ExpectSameRun(const std::string& actual, const std::string& expected,
                     const std::string& file = "/model.safetensors") const {
    ExpectSameMetrics(actual, expected);
    const auto of = SafetensorsFile::Open(job_.Path(expected + file));
    const auto is = SafetensorsFile::Open(job_.Path(actual + file));
    for (const auto& [name, info] : of->tensors()) {
      EXPECT_TRUE(at::allclose(is->View(name), of->View(name), 1e-4, 1e-5)) << name;
    }
  }
  std::vector<std::string> Leftovers() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(job_.dir())) {
      const std::string name = entry.path().filename();
      if (name.find(".attempt-") != std::string::npos) names.push_back(name);
    }
    return names;
  }

  const int many_ = ManyRanks();
  TinyJob job_;
};

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
  Run(2, Arguments("dpo", "pairs.jsonl", 2, "part",
                   ", max_steps: 6, save_steps: 3, save_total_limit: 2" + exactly));
  ExpectSameRun("part", "whole");
  const std::string from =
      ", max_steps: 6, resume_from_checkpoint: " + job_.Path("part.checkpoints/checkpoint-3");
  Run(2, Arguments("dpo", "pairs.jsonl", 2, "same", from + exactly));
  EXPECT_TRUE(ReadAll(job_.Path("same/model.safetensors")) ==
              ReadAll(job_.Path("part/model.safetensors")))
      << "on as many ranks a run goes on to the last bit";
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

// ---- Sequence parallelism ----

// Of `size` ranks that have rows together, and of as many rows at once whatever their number.
std::string Sequence(int size, int ranks) {
  const std::string rows = std::to_string(4 * size / ranks);
  return " --set parallel.sequence_parallel_size=" + std::to_string(size) +
         " --set training.per_device_train_batch_size=" + rows +
         " --set training.per_device_eval_batch_size=" + rows;
}

TEST_F(ParallelTest, RanksWithPartsOfTheTokensAreOneDevice) {
  const std::string more = ", max_steps: 6, sample_prompts: [ab]";
  Run(1, Arguments("sft", "sft.jsonl", 1, "one", more));
  Run(2, Arguments("sft", "sft.jsonl", 2, "two", more) + Sequence(2, 2));
  EXPECT_GT(Metrics("two").size(), 6u);
  ExpectSameRun("two", "one");
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

TEST_F(ParallelTest, HeadsThatRanksCannotShareAreRefused) {
  RankProcesses processes(3,
                          Arguments("sft", "sft.jsonl", 3, "out") +
                              " --set parallel.sequence_parallel_size=3",
                          job_.Path("log"));
  EXPECT_THAT(processes.Wait(kLimit), Each(kExitInvalidInput));
  EXPECT_THAT(processes.Output(0),
              AllOf(HasSubstr("sequence_parallel_size: 3 does not divide the 4 query heads"),
                    HasSubstr("use one of 1, 2, 4")));
}

// Each process may keep a map in another order.
TEST_F(ParallelTest, TheOrderOfLabelsAndRolesIsNoDifference) {
  std::string maps;
  for (const char* key : {"a", "b", "c", "d", "e", "f", "g", "h"}) {
    maps += absl::StrCat(" --set labels.", key, "=x --set dataset.roles.", key, "=user");
  }
  Run(2, Arguments("sft", "sft.jsonl", 2, "maps", ", max_steps: 1") + maps);
}

// ---- FSDP ----

constexpr char kFsdp[] = " --set parallel.strategy=FSDP";

TEST_F(ParallelTest, FsdpIsOneDevice) {
  const std::string more = ", max_steps: 6, gradient_checkpointing: true, sample_prompts: [ab]";
  Run(1, Arguments("sft", "sft.jsonl", 1, "one", more));
  Run(2, Arguments("sft", "sft.jsonl", 2, "two", more) + kFsdp);
  ExpectSameRun("two", "one");
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

// Ten rows, of which a step takes eight: then ranks are without rows, and a micro-batch, too.
TEST_F(ParallelTest, FsdpKeepsTheBestModelOnTwoCopiesWithoutRowsForAll) {
  const std::string more = ", max_steps: 6, load_best_model_at_end: true, save_steps: 3";
  const std::string few = " --set dataset.max_samples=13";
  Run(1, Arguments("sft", "sft.jsonl", 1, "one", more) + few);
  Run(many_, Arguments("sft", "sft.jsonl", many_, "four", more) + few + kFsdp +
                 " --set parallel.hybrid_shard_size=2");
  ExpectSameRun("four", "one");
}

// From one device to four ranks and back.
TEST_F(ParallelTest, FsdpGoesOnFromOneDevicesCheckpointAndBack) {
  const std::string save = ", max_steps: 6, save_steps: 3";
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "whole", save));
  const std::string from = ", max_steps: 6, resume_from_checkpoint: ";
  Run(many_, Arguments("dpo", "pairs.jsonl", many_, "to_four",
                       from + job_.Path("whole.checkpoints/checkpoint-3")) +
                 kFsdp);
  ExpectSameRun("to_four", "whole");
  // The same bits need the same library for products in each process.
  const std::string exactly = std::string(kFsdp) + " --set training.deterministic=true";
  Run(many_, Arguments("dpo", "pairs.jsonl", many_, "four", save) + exactly);
  ExpectSameRun("four", "whole");
  const std::string from_four = from + job_.Path("four.checkpoints/checkpoint-3");
  Run(many_,
      Arguments("dpo", "pairs.jsonl", many_, "same", from_four + ", save_steps: 3") + exactly);
  EXPECT_TRUE(ReadAll(job_.Path("same/model.safetensors")) ==
              ReadAll(job_.Path("four/model.safetensors")));
  for (int rank = 0; rank < many_; ++rank) {
    const std::string shard = ".checkpoints/checkpoint-6/" + ShardFile(rank, many_);
    EXPECT_TRUE(ReadAll(job_.Path("same" + shard)) == ReadAll(job_.Path("four" + shard))) << rank;
  }
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "back", from_four));
  ExpectSameRun("back", "whole");
}

// A checkpoint knows rows, not who had them.
TEST_F(ParallelTest, FsdpOfGroupsWithPartsOfTheTokensGoesOnAnywhere) {
  const std::string more = ", max_steps: 6, gradient_checkpointing: true, sample_prompts: [ab]";
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "one", more));
  Run(many_, Arguments("dpo", "pairs.jsonl", many_, "four",
                       more + ", save_steps: 3, save_total_limit: 2") +
                 kFsdp + Sequence(2, many_));
  ExpectSameRun("four", "one");
  const std::string from =
      more + ", resume_from_checkpoint: " + job_.Path("four.checkpoints/checkpoint-3");
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "alone", from));
  ExpectSameRun("alone", "one");
  Run(2, Arguments("dpo", "pairs.jsonl", 2, "two", from) + Sequence(2, 2));
  ExpectSameRun("two", "one");
}

TEST_F(ParallelTest, FsdpGoesOnFromOneToFourToTwoToOne) {
  Run(1, Arguments("sft", "sft.jsonl", 1, "whole", ", max_steps: 8"));
  std::string more = ", max_steps: 8, save_steps: 2, save_total_limit: 4", from;
  int64_t step = 0;
  for (const auto& [ranks, out] : std::vector<std::pair<int, std::string>>{
           {1, "first"}, {many_, "second"}, {2, "third"}, {1, "fourth"}}) {
    Run(ranks, Arguments("sft", "sft.jsonl", ranks, out, more + from) + (ranks > 1 ? kFsdp : ""));
    ExpectSameRun(out, "whole");
    step += 2;
    from = ", resume_from_checkpoint: " +
           job_.Path(out + ".checkpoints/checkpoint-" + std::to_string(step));
  }
}

// Each rank's file has its part. A damaged one is found, put aside, and the one before is used.
TEST_F(ParallelTest, FsdpRanksSaveTheirShards) {
  Run(1, Arguments("sft", "sft.jsonl", 1, "whole", ", max_steps: 6"));
  Run(many_, Arguments("sft", "sft.jsonl", many_, "four",
                       ", max_steps: 6, save_steps: 2, save_total_limit: 4") +
                 kFsdp);
  const std::string newest = job_.Path("four.checkpoints/checkpoint-4");
  VerifyManifest(newest);
  EXPECT_FALSE(fs::exists(newest + "/model.safetensors"));
  EXPECT_FALSE(fs::exists(newest + "/optimizer.safetensors"));
  const std::string third = newest + "/" + ShardFile(many_ / 2, many_);
  for (int rank = 0; rank < many_; ++rank) {
    EXPECT_LT(fs::file_size(newest + "/" + ShardFile(rank, many_)), 1.5 * fs::file_size(third))
        << rank;
  }
  std::fstream(third, std::ios::in | std::ios::out).seekp(fs::file_size(third) - 100) << "!!";
  Arguments("sft", "sft.jsonl", 1, "back", ", max_steps: 6");
  Request request = ReadSpec({.spec_path = job_.Path("back.yaml"), .output = job_.Path("back")});
  request.launch.set_resume_from(newest);
  const TaskOutcome outcome = RunRecorded(request);
  using Event = v1::Event;
  ASSERT_EQ(outcome.exit_code, kExitOk) << outcome.sink.Last(Event::kFailed).ShortDebugString();
  EXPECT_EQ(outcome.sink.All(Event::kStep).front().step().step(), 3);
  EXPECT_THAT(outcome.sink.All(Event::kWarning).front().warning().message(),
              AllOf(HasSubstr(third + " differs from its digest"),
                    HasSubstr("it is now " + newest + ".damaged")));
  EXPECT_FALSE(fs::exists(newest));
  EXPECT_TRUE(fs::exists(newest + ".damaged"));
  ExpectSameRun("back", "whole");

  // It is no model's folder, and says what it is.
  Arguments("sft", "sft.jsonl", 1, "model", ", max_steps: 1");
  Request of_it =
      ReadSpec({.spec_path = job_.Path("model.yaml"),
                .overrides = {"model.name=" + job_.Path("four.checkpoints/checkpoint-2"),
                              "model.random_init=false"},
                .output = job_.Path("model_out")});
  EXPECT_THAT(RunRecorded(of_it).sink.Last(Event::kFailed).failed().message(),
              HasSubstr("is a training checkpoint that several ranks have written"));
}

// 8-bit states have a number for each 256 elements, adafactor's one for each row and column.
TEST_F(ParallelTest, FsdpOfOtherOptimizersGoesOnOnAnotherNumberOfRanks) {
  for (const std::string name : {"adamw_8bit", "adafactor"}) {
    const std::string optim = ", max_steps: 4, optim: " + name;
    const auto out = [&](const char* run) { return name + "_" + run; };
    Run(1, Arguments("sft", "sft.jsonl", 1, out("whole"), optim));
    Run(many_, Arguments("sft", "sft.jsonl", many_, out("four"), optim + ", save_steps: 2") +
                   kFsdp + " --set parallel.shard=OPTIMIZER");
    ExpectSameMetrics(out("four"), out("whole"));
    const std::vector<std::pair<int, const char*>> others = {{2, "two"}, {1, "one"}};
    for (const auto& [ranks, run] : others) {
      Run(ranks, Arguments("sft", "sft.jsonl", ranks, out(run),
                           optim + ", resume_from_checkpoint: " +
                               job_.Path(out("four") + ".checkpoints/checkpoint-2")) +
                     (ranks > 1 ? kFsdp : ""));
      ExpectSameMetrics(out(run), out("whole"));
    }
  }
}

// It is among the shards, and goes on from them and from one device's checkpoint.
TEST_F(ParallelTest, FsdpMovesTheReferenceAndKeepsItInCheckpoints) {
  const std::string moves =
      " --set dpo.sync_ref_model=true --set dpo.ref_model_sync_steps=2"
      " --set dpo.ref_model_mixup_alpha=0.5";
  const std::string save = ", max_steps: 6, save_steps: 3";
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "whole", save) + moves);
  Run(many_, Arguments("dpo", "pairs.jsonl", many_, "four", save) + moves + kFsdp);
  ExpectSameRun("four", "whole");
  const auto from = [&](const std::string& out) {
    return ", max_steps: 6, resume_from_checkpoint: " +
           job_.Path(out + ".checkpoints/checkpoint-3");
  };
  Run(2, Arguments("dpo", "pairs.jsonl", 2, "two", from("four")) + moves + kFsdp);
  ExpectSameRun("two", "whole");
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "back", from("four")) + moves);
  ExpectSameRun("back", "whole");
  Run(2, Arguments("dpo", "pairs.jsonl", 2, "to_two", from("whole")) + moves + kFsdp);
  ExpectSameRun("to_two", "whole");
}

// The reference has its own copies of what is trained: of modules saved whole, and of an adapter
// that came from a folder, as they were when the job began, also after a checkpoint.
TEST_F(ParallelTest, FsdpComparesWithWhatAnAdaptedModelWas) {
  constexpr char kAdapter[] = "/adapter_model.safetensors";
  const std::string save = ", max_steps: 6, save_steps: 3";
  const std::string lora = " --set lora.r=4 --set lora.modules_to_save=[lm_head]";
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "one", save) + lora);
  Run(many_, Arguments("dpo", "pairs.jsonl", many_, "many", save) + lora + kFsdp);
  ExpectSameRun("many", "one", kAdapter);
  Run(2, Arguments("dpo", "pairs.jsonl", 2, "on",
                   ", max_steps: 6, resume_from_checkpoint: " +
                       job_.Path("many.checkpoints/checkpoint-3")) +
             lora + kFsdp);
  ExpectSameRun("on", "one", kAdapter);

  const std::string adapter = " --set lora.adapter_uri=" + job_.Path("one");
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "next", save) + adapter);
  Run(2, Arguments("dpo", "pairs.jsonl", 2, "next_two", save) + adapter + kFsdp);
  ExpectSameRun("next_two", "next", kAdapter);
  Run(2, Arguments("dpo", "pairs.jsonl", 2, "before", save) + adapter + kFsdp +
             " --set dpo.precompute_ref_log_probs=true");
  ExpectSameRun("before", "next", kAdapter);
}

// Thirteen rows: ranks without rows, and epochs of which they know some answers already.
TEST_F(ParallelTest, FsdpAsksItsReferenceBeforeTheEpoch) {
  const std::string few = " --set dataset.max_samples=13", save = ", max_steps: 6, save_steps: 3";
  for (const auto& [method, data] : std::vector<std::pair<std::string, std::string>>{
           {"dpo", "pairs.jsonl"}, {"kto", "labelled.jsonl"}}) {
    const std::string before = " --set " + method + ".precompute_ref_log_probs=true";
    Run(1, Arguments(method, data, 1, method + "_live", save) + few);
    Run(many_, Arguments(method, data, many_, method + "_four", save) + few + before + kFsdp);
    ExpectSameRun(method + "_four", method + "_live");
    Run(2, Arguments(method, data, 2, method + "_two",
                     ", max_steps: 6, resume_from_checkpoint: " +
                         job_.Path(method + "_four.checkpoints/checkpoint-3")) +
               few + before + kFsdp + " --set parallel.shard=OPTIMIZER");
    ExpectSameRun(method + "_two", method + "_live");
  }
}

// Updates on the host are those of the device, to the last bit where that is the host, too; and so
// they are over checkpoints of the one that the other goes on from.
TEST_F(ParallelTest, FsdpOffloadsToTheHost) {
  const std::string exactly =
      std::string(kFsdp) + " --set training.deterministic=true --set parallel.hybrid_shard_size=2";
  const std::string offload = " --set parallel.cpu_offload=true";
  const std::string save = ", max_steps: 6, save_steps: 3";
  Run(many_, Arguments("dpo", "pairs.jsonl", many_, "device", save) + exactly);
  Run(many_, Arguments("dpo", "pairs.jsonl", many_, "host", save) + exactly + offload);
  Run(many_, Arguments("dpo", "pairs.jsonl", many_, "on",
                       ", max_steps: 6, resume_from_checkpoint: " +
                           job_.Path("host.checkpoints/checkpoint-3")) +
                 exactly);
  ExpectSameRun("host", "device");
  if (OnGpus()) return ExpectSameRun("on", "device");
  for (const char* out : {"host", "on"}) {
    EXPECT_TRUE(ReadAll(job_.Path(out + std::string("/model.safetensors"))) ==
                ReadAll(job_.Path("device/model.safetensors")))
        << out;
  }
}

// ---- The rule that chooses a strategy ----

TEST(ReduceDtypeTest, GradientsAreSummedAsTheyAreKept) {
  const PrecisionPlan fp32, bf16 = {.storage = at::kBFloat16,
                                    .compute = at::kBFloat16,
                                    .gradient = at::kBFloat16,
                                    .optimizer = at::kBFloat16};
  liger::v1::ParallelSpec parallel;
  EXPECT_EQ(ReduceDtype(parallel, fp32), at::kFloat);
  EXPECT_EQ(ReduceDtype(parallel, bf16), at::kBFloat16);
  parallel.set_reduce_dtype(liger::v1::DTYPE_FP32);
  EXPECT_EQ(ReduceDtype(parallel, bf16), at::kFloat);
  parallel.set_reduce_dtype(liger::v1::DTYPE_BF16);
  EXPECT_EQ(ReduceDtype(parallel, fp32), at::kBFloat16);
}

TEST(FsdpChoiceTest, ADeviceHoldsParametersGradientsStatesAndAReference) {
  const auto model = BuildModel(
      ModelConfig::FromFolder(std::string(LIGER_SOURCE_DIR) + "/tests/golden/models/tiny/qwen3_v5"),
      {}, at::kMeta);
  int64_t numel = 0;
  for (const auto& parameter : model->parameters()) numel += parameter.numel();
  liger::v1::JobSpec sft, dpo;
  sft.mutable_sft();
  dpo.mutable_dpo();
  const PrecisionPlan fp32, mixed = {.compute = at::kBFloat16};
  EXPECT_EQ(WholeModelBytes(*model, sft, fp32), 16 * numel);
  EXPECT_EQ(WholeModelBytes(*model, sft, mixed), 18 * numel);
  EXPECT_EQ(WholeModelBytes(*model, dpo, mixed), 20 * numel);
  sft.mutable_training()->set_optim("lion");
  EXPECT_EQ(WholeModelBytes(*model, sft, fp32), 12 * numel);
  for (auto& parameter : model->parameters()) parameter.requires_grad_(false);
  EXPECT_EQ(WholeModelBytes(*model, sft, mixed), 2 * numel);
}

}  // namespace
}  // namespace liger::trainer
