#include <google/protobuf/util/message_differencer.h>

#include "common/spec/elastic.h"
#include "tests/unit/common/spec_testing.h"

namespace liger {
namespace {

using liger::v1::JobSpec;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(SpecTest, AMinimalSpecIsValid) { EXPECT_THAT(Fields("{model: m, sft: }"), IsEmpty()); }

TEST(SpecTest, NamesTheFieldOfEachViolation) {
  EXPECT_THAT(Fields("{model: m}"), ElementsAre("method"));
  EXPECT_THAT(Fields("{sft: }"), ElementsAre("model"));
  EXPECT_THAT(Fields("{model: {name: a/b, uri: a/c}, sft: }"), ElementsAre("model.uri"));
  EXPECT_THAT(Fields("{model: m, dataset: {name: a.jsonl, uri: file:///a.jsonl}, sft: }"),
              ElementsAre("dataset.uri"));
  EXPECT_THAT(Fields("{model: {name: /a/b, uri: 'file:///a/b/'}, sft: }"), IsEmpty());
  EXPECT_THAT(Fields("{model: {name: llama3-8b, uri: a/c}, sft: }"), IsEmpty());
  EXPECT_THAT(Fields("{model: m, sft: , name: Not_Ok}"), ElementsAre("name"));
  EXPECT_THAT(Fields("{model: m, sft: , name: 0a1b2c3d-0a1b-4c3d-8e4f-0123456789ab}"),
              ElementsAre("name"))
      << "a uid's form";
  EXPECT_THAT(Fields("{model: m, sft: , priority: 3}"), ElementsAre("priority"));
  EXPECT_THAT(Fields("{model: m, sft: , resources: {count: 2000}}"),
              ElementsAre("resources.count"));
  EXPECT_THAT(
      Fields("{model: m, sft: , training: {optim: adafactor}, parallel: {strategy: FSDP}}"),
      IsEmpty());
  EXPECT_THAT(Fields("{model: m, dpo: {sync_ref_model: true}, parallel: {strategy: FSDP}}"),
              IsEmpty());
  EXPECT_THAT(Fields("{model: m, sft: , parallel: {strategy: DDP, cpu_offload: true}}"),
              ElementsAre("parallel.cpu_offload"));
  for (const char* parallel : {"strategy: DDP", "strategy: FSDP", "strategy: SINGLE",
                               "reduce_dtype: BF16", "strategy: FSDP, cpu_offload: true"}) {
    EXPECT_THAT(Fields(std::string("{model: m, sft: , parallel: {") + parallel + "}}"), IsEmpty());
  }
  EXPECT_THAT(Fields("{model: m, sft: , resources: {count: 2}, parallel: {strategy: SINGLE}}"),
              ElementsAre("parallel.strategy"));
  const std::string mixed = "{device_kind: CUDA, count: 2, allow_mixed_devices: true}";
  EXPECT_THAT(Fields("{model: m, sft: , resources: " + mixed + "}"),
              ElementsAre("parallel.strategy"));
  EXPECT_THAT(Fields("{model: m, sft: , resources: " + mixed + ", parallel: {strategy: FSDP}}"),
              IsEmpty());
  EXPECT_THAT(Fields("{model: m, sft: , resources: {count: 4}, parallel: "
                     "{sequence_parallel_size: 2}}"),
              IsEmpty());
  for (const char* size : {"3", "8", "0"}) {
    EXPECT_THAT(Fields(std::string("{model: m, sft: , resources: {count: 4}, parallel: "
                                   "{sequence_parallel_size: ") + size + "}}"),
                ElementsAre("parallel.sequence_parallel_size")) << size;
  }
  EXPECT_THAT(Fields("{model: m, sft: , parallel: {sequence_parallel_size: 2}}"),
              ElementsAre("parallel.sequence_parallel_size"))
      << "one device";
  EXPECT_THAT(Fields("{model: m, dpo: {precompute_ref_log_probs: true}, resources: {count: 2}, "
                     "parallel: {sequence_parallel_size: 2}}"),
              ElementsAre("dpo.precompute_ref_log_probs"));
  EXPECT_THAT(Fields("{model: m, kto: , training: {per_device_train_batch_size: 1}, resources: "
                     "{count: 2}, parallel: {sequence_parallel_size: 2}}"),
              ElementsAre("training.per_device_train_batch_size"))
      << "both devices have the same row";
  EXPECT_THAT(Fields("{model: m, kto: , training: {per_device_train_batch_size: 1}, resources: "
                     "{count: 4}, parallel: {sequence_parallel_size: 2}}"),
              IsEmpty());
  EXPECT_THAT(Fields("{model: m, sft: , parallel: {reduce_dtype: FP16}}"),
              ElementsAre("parallel.reduce_dtype"));
  EXPECT_THAT(Fields("{model: m, sft: , training: {lr_scheduler_type: cosin}}"),
              ElementsAre("training.lr_scheduler_type"));
  EXPECT_THAT(Fields("{model: m, sft: , training: {compute_dtype: fp16}}"),
              ElementsAre("training.compute_dtype"));
  EXPECT_THAT(Fields("{model: m, sft: , training: {bf16: true, precision: fp32}}"),
              ElementsAre("training.bf16"));
  EXPECT_THAT(Fields("{model: {uri: 's3://b/m'}, sft: }"), ElementsAre("model.uri"));
  EXPECT_THAT(Fields(R"({model: m, sft: , output: {uri: "a\e[2Jb"}})"), ElementsAre("output.uri"));
}

TEST(SpecTest, AnOutputsNamesFitAFileSystem) {
  const auto fields = [](int folder, int last) {
    return Fields("{model: m, sft: , output: {uri: 'file:///out/" + std::string(folder, 'f') + "/" +
                  std::string(last, 'n') + "/'}}");
  };
  EXPECT_THAT(fields(255, 232), IsEmpty());
  EXPECT_THAT(fields(255, 233), ElementsAre("output.uri")) << "it grows while it is published";
  EXPECT_THAT(fields(256, 1), ElementsAre("output.uri"));
}

TEST(SpecTest, RangesHaveTheRightEnds) {
  const auto bad = [](const std::string& field, const std::string& value) {
    return !Fields("{model: m, orpo: {}, training: {" + field + ": " + value + "}}").empty();
  };
  EXPECT_TRUE(bad("learning_rate", "0"));
  EXPECT_TRUE(bad("learning_rate", "-1"));
  EXPECT_TRUE(bad("learning_rate", "nan"));
  EXPECT_TRUE(bad("learning_rate", "inf"));
  EXPECT_FALSE(bad("learning_rate", "1e-9"));
  EXPECT_TRUE(bad("warmup_ratio", "1"));
  EXPECT_FALSE(bad("warmup_ratio", "0"));
  EXPECT_TRUE(bad("max_length", "1"));
  EXPECT_FALSE(bad("max_length", "2"));
  EXPECT_TRUE(bad("per_device_train_batch_size", "0"));
  EXPECT_TRUE(bad("adam_beta2", "1"));
  EXPECT_FALSE(bad("max_grad_norm", "0"));
}

TEST(SpecTest, DefaultsAreThoseOfTheProtoComments) {
  JobSpec spec = Parse("{model: m, orpo: }");
  FillDefaults(&spec);
  EXPECT_EQ(spec.orpo().beta(), 0.1);
  EXPECT_EQ(spec.training().learning_rate(), 1e-6);
  EXPECT_EQ(spec.training().lr_scheduler_type(), "linear");
  EXPECT_EQ(spec.training().data_seed(), 42);
  EXPECT_EQ(spec.training().precision(), liger::v1::PRECISION_FP32);
  EXPECT_EQ(spec.kernels().mode(), liger::v1::KERNEL_MODE_LIGER);
  EXPECT_FALSE(spec.kernels().has_rope()) << "the model's type decides";
  EXPECT_FALSE(spec.training().eval_on_start());
  EXPECT_EQ(spec.output().uri(), "");

  JobSpec named = Parse("{name: tune, model: m, sft: }");
  FillDefaults(&named);
  EXPECT_EQ(named.output().uri(), "tune");

  JobSpec sft = Parse("{model: m, sft: , resources: {device_kind: cuda}, kernels: baseline}");
  FillDefaults(&sft);
  EXPECT_EQ(sft.training().learning_rate(), 2e-5);
  EXPECT_EQ(sft.training().precision(), liger::v1::PRECISION_BF16_MIXED);
  EXPECT_EQ(sft.training().compute_dtype(), liger::v1::DTYPE_BF16);
  EXPECT_EQ(sft.training().storage_dtype(), liger::v1::DTYPE_FP32);
  EXPECT_EQ(sft.kernels().mode(), liger::v1::KERNEL_MODE_BASELINE);
}

TEST(SpecTest, OptimizersCheckpointsAndTheBestModel) {
  JobSpec spec = Parse("{model: m, sft: , training: {optim: adamw_bnb_8bit}}");
  FillDefaults(&spec);
  EXPECT_EQ(spec.training().optim(), "adamw_8bit");
  EXPECT_EQ(spec.training().save_steps(), 0);
  EXPECT_EQ(spec.training().save_total_limit(), 2);
  EXPECT_EQ(spec.training().metric_for_best_model(), "loss");
  EXPECT_TRUE(spec.training().has_greater_is_better());
  EXPECT_FALSE(spec.training().greater_is_better());
  for (const auto& [given, meant] : std::map<std::string, std::string>{
           {"adamw_torch_fused", "adamw"}, {"lion_32bit", "lion"}, {"sgd", "sgd"}}) {
    JobSpec named = Parse("{model: m, sft: , training: {optim: " + given + "}}");
    FillDefaults(&named);
    EXPECT_EQ(named.training().optim(), meant);
  }
  JobSpec best = Parse(
      "{model: m, dpo: , dataset: {eval_fraction: 0.1}, training: {eval_steps: 5, "
      "load_best_model_at_end: true, metric_for_best_model: rewards/margins}}");
  EXPECT_THAT(ValidateSpec(best), IsEmpty());
  FillDefaults(&best);
  EXPECT_TRUE(best.training().greater_is_better());

  const std::string begin = "{model: m, sft: , training: {";
  EXPECT_THAT(Fields(begin + "optim: rmsprop}}"), ElementsAre("training.optim"));
  EXPECT_THAT(Fields(begin + "optim: sgd, sgd_momentum: 1}}"),
              ElementsAre("training.sgd_momentum"));
  EXPECT_THAT(Fields(begin + "save_steps: -1, save_total_limit: -1}}"),
              testing::UnorderedElementsAre("training.save_steps", "training.save_total_limit"));
  EXPECT_THAT(Fields(begin + "load_best_model_at_end: true, eval_steps: 5}}"),
              ElementsAre("training.load_best_model_at_end"));
  EXPECT_THAT(Fields(begin + "early_stopping_patience: 2}, dataset: {eval_fraction: 0.1}}"),
              ElementsAre("training.early_stopping_patience"));
  EXPECT_THAT(Fields(begin + "early_stopping_patience: -1, early_stopping_threshold: -1}}"),
              testing::UnorderedElementsAre("training.early_stopping_patience",
                                            "training.early_stopping_threshold"));
  EXPECT_THAT(Fields(begin + "resume_from_checkpoint: 's3://b/checkpoint-1'}}"),
              ElementsAre("training.resume_from_checkpoint"));
}

TEST(SpecTest, SamplePromptsAreFewAndShort) {
  JobSpec spec = Parse("{model: m, sft: }");
  for (int i = 0; i < 64; ++i) spec.mutable_training()->add_sample_prompts(std::string(16384, 'x'));
  EXPECT_TRUE(ValidateSpec(spec).empty());
  *spec.mutable_training()->mutable_sample_prompts(7) += "x";
  ASSERT_EQ(ValidateSpec(spec).size(), 1u);
  EXPECT_EQ(ValidateSpec(spec)[0].field(), "training.sample_prompts[7]");
  spec.mutable_training()->add_sample_prompts("one more");
  EXPECT_EQ(ValidateSpec(spec)[0].field(), "training.sample_prompts");
}

TEST(SpecTest, FillingKeepsWhatIsGivenAndIsIdempotent) {
  JobSpec spec = Parse(
      "{model: m, sft: , training: {learning_rate: 1, seed: 7, max_grad_norm: 0, "
      "bf16: true}, kernels: {mode: custom, rope: true}}");
  FillDefaults(&spec);
  EXPECT_EQ(spec.training().learning_rate(), 1);
  EXPECT_EQ(spec.training().data_seed(), 7);
  EXPECT_EQ(spec.training().max_grad_norm(), 0);
  EXPECT_EQ(spec.training().precision(), liger::v1::PRECISION_BF16_MIXED);
  EXPECT_TRUE(spec.kernels().rope());
  EXPECT_THAT(ValidateSpec(spec), IsEmpty());
  JobSpec again = spec;
  FillDefaults(&again);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, again));
}

TEST(SpecTest, ConstantScheduleWithWarmupIsRefused) {
  EXPECT_THAT(Fields("{model: m, sft: , training: {lr_scheduler_type: constant, warmup_steps: 3}}"),
              ElementsAre("training.warmup_steps"));
  EXPECT_THAT(
      Fields("{model: m, sft: , training: {lr_scheduler_type: constant, warmup_ratio: 0.1}}"),
      ElementsAre("training.warmup_ratio"));
  EXPECT_THAT(Fields("{model: m, sft: , training: {lr_scheduler_type: constant_with_warmup, "
                     "warmup_steps: 3}}"),
              IsEmpty());
}

TEST(SpecTest, HashIgnoresWhatDoesNotChangeTheRun) {
  JobSpec spec = Parse("{model: m, sft: }");
  FillDefaults(&spec);
  JobSpec renamed = spec;
  renamed.set_name("other");
  (*renamed.mutable_labels())["a"] = "b";
  renamed.mutable_output()->set_uri("elsewhere");
  EXPECT_EQ(SpecHash(spec), SpecHash(renamed));
  JobSpec changed = spec;
  changed.mutable_training()->set_seed(43);
  EXPECT_NE(SpecHash(spec), SpecHash(changed));
}

TEST(LooksLikePath, TellsPathsFromNames) {
  for (const char* path :
       {"a/b", "./a", "../a", "~/a", "file:///a", "a.json", "a.jsonl", "a.csv", "a.jsonl.gz",
        "a.csv.zst", "a.parquet", "a.arrow", "part-*", "part-?", "[a-z]"}) {
    EXPECT_TRUE(LooksLikePath(path)) << path;
  }
  for (const char* name : {"llama3-8b", "qwen2.5-0.5b", "json", "a.gz", "a.zst"}) {
    EXPECT_FALSE(LooksLikePath(name)) << name;
  }
}

TEST(DatasetSources, AreCheckedAndExcludeWhatTheyReplace) {
  const auto fields = [](const std::string& dataset) {
    return Fields("{model: m, sft: , dataset: {" + dataset + "}}");
  };
  EXPECT_THAT(fields("sources: [{uri: a.jsonl}, {uri: b.jsonl, columns: {prompt: q}}]"), IsEmpty());
  EXPECT_THAT(fields("sources: [{uri: a.jsonl, weight: 1}, {uri: b.jsonl, weight: 0.5}]"),
              IsEmpty());
  EXPECT_THAT(fields("name: x, sources: [{uri: a.jsonl}]"), ElementsAre("dataset.name"));
  EXPECT_THAT(fields("uri: x, digest: y, max_samples: 3, sources: [{uri: a.jsonl}]"),
              ElementsAre("dataset.uri", "dataset.digest", "dataset.max_samples"));
  EXPECT_THAT(fields("sources: [{format: TEXT}]"), ElementsAre("dataset.sources[0].uri"));
  EXPECT_THAT(fields("sources: [{uri: a.jsonl}, {uri: \"s3://b/a.jsonl\"}]"),
              ElementsAre("dataset.sources[1].uri"));
  EXPECT_THAT(fields("sources: [{uri: a.jsonl, weight: 1}, {uri: b.jsonl}]"),
              ElementsAre("dataset.sources[1].weight"));
  EXPECT_THAT(fields("sources: [{uri: a.jsonl, weight: 0, max_samples: -1}]"),
              ElementsAre("dataset.sources[0].max_samples", "dataset.sources[0].weight"));
  EXPECT_THAT(fields("sources: [{uri: a, columns: {promt: q}, roles: {bot: robot}}]"),
              ElementsAre("dataset.sources[0].columns.promt", "dataset.sources[0].roles.bot"));
}

TEST(Packing, OptionsAreChecked) {
  const auto fields = [](const std::string& rest) { return Fields("{model: m, " + rest + "}"); };
  EXPECT_THAT(fields("sft: {packing: true, packing_strategy: wrapped}"), IsEmpty());
  EXPECT_THAT(fields("sft: {packing: true, packing_strategy: bdf}"),
              ElementsAre("sft.packing_strategy"));
  EXPECT_THAT(fields("sft: {packing: true, packing_strategy: wrapped}, "
                     "training: {truncation_mode: keep_end}"),
              ElementsAre("training.truncation_mode"));
  EXPECT_THAT(fields("sft: , training: {group_by_length: true}, dataset: {shuffle: false}"),
              ElementsAre("training.group_by_length"));
  JobSpec spec;
  spec.mutable_sft()->set_packing(true);
  FillDefaults(&spec);
  EXPECT_EQ(spec.sft().packing_strategy(), "bfd");
  EXPECT_FALSE(spec.training().group_by_length());
}

std::vector<std::string> TrainingFields(const std::string& training) {
  return Fields("{model: m, sft: , training: {" + training + "}}");
}

TEST(SpecTest, ScheduleParametersGoWithTheirSchedule) {
  const std::string kwargs = "training.lr_scheduler_kwargs";
  EXPECT_THAT(TrainingFields("lr_scheduler_kwargs: {power: 2}"), ElementsAre(kwargs + ".power"));
  EXPECT_THAT(TrainingFields("lr_scheduler_type: polynomial, lr_scheduler_kwargs: {power: 2}"),
              IsEmpty());
  EXPECT_THAT(TrainingFields("lr_scheduler_type: polynomial, learning_rate: 1e-3, "
                             "lr_scheduler_kwargs: {lr_end: 1e-2}"),
              ElementsAre(kwargs + ".lr_end"));
  EXPECT_THAT(TrainingFields("lr_scheduler_type: cosine_with_min_lr"), ElementsAre(kwargs));
  EXPECT_THAT(
      TrainingFields("lr_scheduler_type: cosine_with_min_lr, lr_scheduler_kwargs: {min_lr: 1e-9}"),
      IsEmpty());
  EXPECT_THAT(TrainingFields("lr_scheduler_type: cosine_with_min_lr, "
                             "lr_scheduler_kwargs: {min_lr: 1e-9, min_lr_rate: 0.1}"),
              ElementsAre(kwargs));
  EXPECT_THAT(TrainingFields("lr_scheduler_type: warmup_stable_decay"), ElementsAre(kwargs));
  // Where the job says no learning rate, against the one that it gets.
  const auto least = [](const std::string& method, const std::string& rate) {
    return Fields("{model: m, " + method +
                  ": , training: {lr_scheduler_type: cosine_with_min_lr, "
                  "lr_scheduler_kwargs: {min_lr: " +
                  rate + "}}}");
  };
  EXPECT_THAT(least("sft", "2e-6"), IsEmpty());
  EXPECT_THAT(least("sft", "3e-5"), ElementsAre(kwargs + ".min_lr"));
  EXPECT_THAT(least("dpo", "1e-7"), IsEmpty());
  EXPECT_THAT(least("dpo", "2e-6"), ElementsAre(kwargs + ".min_lr"));
  EXPECT_THAT(TrainingFields("lr_scheduler_type: warmup_stable_decay, "
                             "lr_scheduler_kwargs: {num_decay_steps: 5, decay_type: sqrt}"),
              ElementsAre(kwargs + ".decay_type"));
}

TEST(SpecTest, WarmupStepsAreStepsOrAShare) {
  for (const char* fine : {"0", "0.1", "1", "20"}) {
    EXPECT_THAT(TrainingFields(std::string("warmup_steps: ") + fine), IsEmpty()) << fine;
  }
  EXPECT_THAT(TrainingFields("warmup_steps: 2.5"), ElementsAre("training.warmup_steps"));
}

// Numbers of steps that would overflow: no step at all, or a rate above the learning rate.
TEST(SpecTest, NumbersOfStepsFitTheirSums) {
  for (const std::string field : {"max_steps", "warmup_steps"}) {
    EXPECT_THAT(TrainingFields(field + ": 1000000000000"), IsEmpty()) << field;
    EXPECT_THAT(TrainingFields(field + ": 9223372036854775807"), ElementsAre("training." + field));
  }
  EXPECT_THAT(TrainingFields("num_train_epochs: 1e6"), IsEmpty());
  EXPECT_THAT(TrainingFields("num_train_epochs: 1e300"), ElementsAre("training.num_train_epochs"));
  EXPECT_THAT(TrainingFields("lr_scheduler_type: warmup_stable_decay, lr_scheduler_kwargs: "
                             "{num_decay_steps: 9223372036854775807, "
                             "num_stable_steps: 9223372036854775807}"),
              ElementsAre("training.lr_scheduler_kwargs.num_decay_steps",
                          "training.lr_scheduler_kwargs.num_stable_steps"));
  EXPECT_THAT(TrainingFields("lr_scheduler_type: inverse_sqrt, lr_scheduler_kwargs: "
                             "{timescale: 9223372036854775807}"),
              ElementsAre("training.lr_scheduler_kwargs.timescale"));
}

TEST(SpecTest, NamesOfColumnsAndRolesAreKnownOnes) {
  EXPECT_THAT(Fields("{model: m, sft: , dataset: {columns: {prompt: question}, "
                     "roles: {agent: assistant}}}"),
              IsEmpty());
  EXPECT_THAT(Fields("{model: m, sft: , dataset: {columns: {promt: question}, "
                     "roles: {agent: robot}}}"),
              ElementsAre("dataset.columns.promt", "dataset.roles.agent"));
  EXPECT_THAT(TrainingFields("truncation_mode: middle"), ElementsAre("training.truncation_mode"));
}

TEST(ElasticTest, FewerDevicesTakeMoreMicroBatches) {
  liger::v1::JobSpec spec;
  spec.mutable_resources()->set_count(4);
  spec.mutable_training()->set_gradient_accumulation_steps(2);
  EXPECT_THAT(WorldSizes(spec, /*again=*/true), ElementsAre(4)) << "it does not allow it";
  spec.mutable_parallel()->set_elastic(true);
  EXPECT_THAT(WorldSizes(spec, /*again=*/false), ElementsAre(4));
  EXPECT_THAT(WorldSizes(spec, /*again=*/true), ElementsAre(4, 2, 1));
  const liger::v1::JobSpec one = OnDevices(spec, 1);
  EXPECT_EQ(one.resources().count(), 1);
  EXPECT_EQ(one.training().gradient_accumulation_steps(), 8);
  spec.mutable_training()->set_gradient_accumulation_steps(3);
  EXPECT_THAT(WorldSizes(spec, /*again=*/true), ElementsAre(4, 3, 2, 1));
  EXPECT_EQ(OnDevices(spec, 3).training().gradient_accumulation_steps(), 4);
  spec.mutable_parallel()->set_hybrid_shard_size(2);
  EXPECT_THAT(WorldSizes(spec, /*again=*/true), ElementsAre(4, 2));
  spec.mutable_parallel()->clear_hybrid_shard_size();
  spec.mutable_parallel()->set_sequence_parallel_size(2);
  EXPECT_THAT(WorldSizes(spec, /*again=*/true), ElementsAre(4, 2));
}

}  // namespace
}  // namespace liger
