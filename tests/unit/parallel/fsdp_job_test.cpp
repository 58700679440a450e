// Jobs of several ranks with a shard each: what they leave is what one device leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/parallel/rank_jobs.h"
#include "worker/trainer/checkpoint/output_folder.h"
#include "worker/trainer/checkpoint/saved_tensors.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
namespace fs = std::filesystem;

constexpr char kFsdp[] = " --set parallel.strategy=FSDP";

class FsdpJobTest : public RankJobs {};

TEST_F(FsdpJobTest, IsOneDevice) {
  const std::string more = ", max_steps: 6, gradient_checkpointing: true, sample_prompts: [ab]";
  Run(1, Arguments("sft", "sft.jsonl", 1, "one", more));
  Run(2, Arguments("sft", "sft.jsonl", 2, "two", more) + kFsdp);
  ExpectSameRun("two", "one");
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

// Ten rows, of which a step takes eight: then ranks are without rows, and a micro-batch, too.
TEST_F(FsdpJobTest, KeepsTheBestModelOnTwoCopiesWithoutRowsForAll) {
  const std::string more = ", max_steps: 6, load_best_model_at_end: true, save_steps: 3";
  const std::string few = " --set dataset.max_samples=13";
  Run(1, Arguments("sft", "sft.jsonl", 1, "one", more) + few);
  Run(many_, Arguments("sft", "sft.jsonl", many_, "four", more) + few + kFsdp +
                 " --set parallel.hybrid_shard_size=2");
  ExpectSameRun("four", "one");
}

// From one device to four ranks and back.
TEST_F(FsdpJobTest, GoesOnFromOneDevicesCheckpointAndBack) {
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
  EXPECT_EQ(Losses(job_.Path("same")), Losses(job_.Path("four")));
  for (int rank = 0; rank < many_; ++rank) {
    const std::string shard = ".checkpoints/checkpoint-6/" + ShardFile(rank, many_);
    EXPECT_TRUE(ReadAll(job_.Path("same" + shard)) == ReadAll(job_.Path("four" + shard))) << rank;
  }
  Run(1, Arguments("dpo", "pairs.jsonl", 1, "back", from_four));
  ExpectSameRun("back", "whole");
}

// A checkpoint knows rows, not who had them.
TEST_F(FsdpJobTest, OfGroupsWithPartsOfTheTokensGoesOnAnywhere) {
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

TEST_F(FsdpJobTest, GoesOnFromOneToFourToTwoToOne) {
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
TEST_F(FsdpJobTest, RanksSaveTheirShards) {
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
TEST_F(FsdpJobTest, OfOtherOptimizersGoesOnOnAnotherNumberOfRanks) {
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
TEST_F(FsdpJobTest, MovesTheReferenceAndKeepsItInCheckpoints) {
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
TEST_F(FsdpJobTest, ComparesWithWhatAnAdaptedModelWas) {
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
TEST_F(FsdpJobTest, AsksItsReferenceBeforeTheEpoch) {
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
TEST_F(FsdpJobTest, OffloadsToTheHost) {
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

}  // namespace
}  // namespace liger::trainer
