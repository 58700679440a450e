// Bad input of the trainers as `submit --dry-run` sees it: the spec's validation, then the CHECK
// task, neither of which uses a device. Each message names the place and what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>

#include "common/spec/spec.h"
#include "common/spec/yaml_proto.h"
#include "tests/paths.h"
#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/check.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class BadInputJobTest : public testing::Test {
 protected:
  // The job of a YAML text, with the tiny model; `rows` is the data's file.
  Request Job(const std::string& yaml, const std::string& rows) const {
    Request request = job_.Sft();
    auto* spec = request.launch.mutable_resolved_spec();
    liger::v1::JobSpec given;
    job_.WriteFile("job.yaml", yaml);
    const auto status = LoadYaml(job_.Path("job.yaml"), &given);
    EXPECT_TRUE(status.ok()) << status;
    *given.mutable_model() = spec->model();
    given.mutable_dataset()->set_uri(rows.starts_with("/") ? rows : job_.Path(rows));
    if (!given.training().has_max_length()) given.mutable_training()->set_max_length(64);
    *spec = given;
    return request;
  }

  // What the dry run finds; the first violation's field and its message.
  liger::v1::Violation Refusal(const std::string& yaml, const std::string& rows) const {
    Request request = Job(yaml, rows);
    auto* spec = request.launch.mutable_resolved_spec();
    auto violations = ValidateSpec(*spec);
    if (violations.empty()) {
      FillDefaults(spec);
      const auto result = CheckJob(request, StopFlag());
      violations.assign(result.violations().begin(), result.violations().end());
    }
    EXPECT_EQ(violations.size(), 1u) << yaml;
    return violations.empty() ? liger::v1::Violation() : violations[0];
  }

  void WriteGzip(const std::string& name, const std::string& text) const {
    const gzFile file = gzopen(job_.Path(name).c_str(), "wb");
    gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    gzclose(file);
  }

  TinyJob job_;
};

TEST_F(BadInputJobTest, UnknownLossTypes) {
  for (const char* method : {"dpo", "kto", "cpo"}) {
    const auto refusal = Refusal(std::string(method) + ": {loss_type: sigmod}", "pairs.jsonl");
    EXPECT_EQ(refusal.field(), std::string(method) + ".loss_type");
    EXPECT_THAT(refusal.message(), AllOf(HasSubstr("'sigmod'"), HasSubstr("one of")));
  }
}

TEST_F(BadInputJobTest, BothOrNeitherOfExclusiveOptions) {
  auto refusal = Refusal("sft: {response_template: 'A:', completion_only_loss: true}", "sft.jsonl");
  EXPECT_EQ(refusal.field(), "sft.completion_only_loss");
  EXPECT_THAT(refusal.message(), HasSubstr("keep one"));
  refusal = Refusal("{sft: {}, training: {warmup_steps: 3, warmup_ratio: 0.1}}", "sft.jsonl");
  EXPECT_EQ(refusal.field(), "training.warmup_ratio");
  EXPECT_THAT(refusal.message(), HasSubstr("keep one"));
  refusal = Refusal("{sft: {}, training: {lr_scheduler_type: cosine_with_min_lr}}", "sft.jsonl");
  EXPECT_EQ(refusal.field(), "training.lr_scheduler_kwargs");
  EXPECT_THAT(refusal.message(), HasSubstr("exactly one of min_lr and min_lr_rate"));
}

TEST_F(BadInputJobTest, KtoOfOneClass) {
  job_.WriteFile("wanted.jsonl",
                 "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": true}\n"
                 "{\"prompt\": \"c\", \"completion\": \"d\", \"label\": true}\n");
  const auto refusal = Refusal("kto: {}", "wanted.jsonl");
  EXPECT_THAT(refusal.message(), AllOf(HasSubstr("wanted.jsonl"), HasSubstr("label: true"),
                                       HasSubstr("rows of both labels")));
}

TEST_F(BadInputJobTest, KtoBatchOfOne) {
  const auto refusal =
      Refusal("{kto: {}, training: {per_device_train_batch_size: 1}}", "labelled.jsonl");
  EXPECT_EQ(refusal.field(), "training.per_device_train_batch_size");
  EXPECT_THAT(refusal.message(), HasSubstr("at least 2"));
}

TEST_F(BadInputJobTest, KtoEvaluationSetOfOne) {
  job_.WriteFile("one.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": true}\n");
  const std::string eval = "dataset: {eval_uri: " + job_.Path("one.jsonl") + "}";
  auto refusal = Refusal("{kto: {}, " + eval + "}", "labelled.jsonl");
  EXPECT_EQ(refusal.field(), "dataset.eval_uri");
  EXPECT_THAT(refusal.message(), HasSubstr("no other row's answer to estimate its KL term"));
  refusal = Refusal("{kto: {}, dataset: {eval_fraction: 0.01}}", "labelled.jsonl");
  EXPECT_EQ(refusal.field(), "dataset.eval_fraction");
  Request request = Job("{kto: {loss_type: apo_zero_unpaired}, " + eval + "}", "labelled.jsonl");
  FillDefaults(request.launch.mutable_resolved_spec());
  EXPECT_EQ(CheckJob(request, StopFlag()).violations_size(), 0);
}

TEST_F(BadInputJobTest, KtoMetricThatNoEvaluationHas) {
  const auto row = [](const char* label) {
    return std::string("{\"prompt\": \"a\", \"completion\": \"b\", \"label\": ") + label + "}\n";
  };
  job_.WriteFile("sorted.jsonl", row("true") + row("true") + row("false") + row("false"));
  job_.WriteFile("wanted.jsonl", row("true") + row("true"));
  const auto spec = [&](const char* file, const char* metric, int batch) {
    return "{kto: {}, dataset: {eval_uri: " + job_.Path(file) + "}, training: {eval_steps: 1, " +
           "load_best_model_at_end: true, metric_for_best_model: " + metric +
           ", per_device_eval_batch_size: " + std::to_string(batch) + "}}";
  };
  auto refusal = Refusal(spec("sorted.jsonl", "rewards/margins", 2), "labelled.jsonl");
  EXPECT_EQ(refusal.field(), "training.metric_for_best_model");
  EXPECT_THAT(refusal.message(), HasSubstr("no 2 evaluation rows behind each other"));
  refusal = Refusal(spec("wanted.jsonl", "eval_rewards/rejected", 2), "labelled.jsonl");
  EXPECT_THAT(refusal.message(), HasSubstr("no evaluation row's label is false"));
  for (const std::string& works : {spec("sorted.jsonl", "rewards/margins", 3),
                                   spec("sorted.jsonl", "rewards/rejected", 1),
                                   spec("wanted.jsonl", "loss", 1)}) {
    Request request = Job(works, "labelled.jsonl");
    FillDefaults(request.launch.mutable_resolved_spec());
    const auto result = CheckJob(request, StopFlag());
    EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
  }
}

// No error, as in TRL, but counted in the dry run and told by the job.
TEST_F(BadInputJobTest, EqualAnswersAreCountedAndWarnedAbout) {
  job_.WriteFile("equal.jsonl",
                 "{\"prompt\": \"a\", \"chosen\": \"yes\", \"rejected\": \"yes\"}\n"
                 "{\"prompt\": \"b\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n");
  for (const char* method : {"dpo", "orpo", "cpo", "kto"}) {
    Request request =
        Job("{" + std::string(method) + ": {}, training: {max_steps: 1}}", "equal.jsonl");
    FillDefaults(request.launch.mutable_resolved_spec());
    const auto result = CheckJob(request, StopFlag());
    EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
    EXPECT_EQ(result.stats().at("equal_pairs"), 1);
    const TaskOutcome outcome = RunRecorded(request);
    EXPECT_EQ(outcome.exit_code, kExitOk);
    const auto warning = outcome.sink.Last(liger::trainer::v1::Event::kWarning).warning().message();
    EXPECT_THAT(warning, AllOf(HasSubstr("equal.jsonl: in 1 of 2 training rows"),
                               HasSubstr("chosen and rejected are the same tokens")));
    std::filesystem::remove_all(job_.Path("attempt"));
  }
}

// As TRL, which says nothing of them.
TEST_F(BadInputJobTest, EmptyAnswersAreCountedAndWarnedAbout) {
  job_.WriteFile("empty.jsonl",
                 "{\"prompt\": \"a\", \"completion\": \"\"}\n"
                 "{\"prompt\": \"\", \"completion\": \"b\"}\n");
  Request request = Job("{sft: {}, training: {max_steps: 1}}", "empty.jsonl");
  FillDefaults(request.launch.mutable_resolved_spec());
  const auto result = CheckJob(request, StopFlag());
  EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
  EXPECT_EQ(result.stats().at("rows"), 2);
  EXPECT_EQ(result.stats().at("dropped_rows"), 0);
  EXPECT_EQ(result.stats().at("empty_answers"), 1);
  EXPECT_EQ(result.stats().at("empty_prompts"), 1);
  ASSERT_EQ(result.warnings_size(), 2) << result.ShortDebugString();
  EXPECT_EQ(result.warnings(0).field(), "dataset");
  EXPECT_THAT(result.warnings(0).message(),
              HasSubstr("empty.jsonl: in 1 of 2 training rows an answer is empty"));
  EXPECT_THAT(result.warnings(1).message(), HasSubstr("the prompt is empty"));
}

TEST_F(BadInputJobTest, PromptsLongerThanMaxLength) {
  const std::string prompt(80, 'p');
  job_.WriteFile("long.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"" +
                                   prompt + "\", \"completion\": \"b\"}\n");
  Request request = Job("sft: {}", "long.jsonl");
  FillDefaults(request.launch.mutable_resolved_spec());
  EXPECT_EQ(CheckJob(request, StopFlag()).stats().at("dropped_rows"), 1);
  auto refusal = Refusal("{sft: {}, dataset: {strict: true}}", "long.jsonl");
  EXPECT_EQ(refusal.row(), 2);
  EXPECT_THAT(refusal.message(), AllOf(HasSubstr("long.jsonl: row 2"), HasSubstr("max_length")));
  job_.WriteFile("all_long.jsonl", "{\"prompt\": \"" + prompt + "\", \"completion\": \"b\"}\n");
  refusal = Refusal("sft: {}", "all_long.jsonl");
  EXPECT_THAT(refusal.message(),
              AllOf(HasSubstr("no rows are left"), HasSubstr("raise training.max_length")));
}

TEST_F(BadInputJobTest, AnAdapterForOtherShapes) {
  Request request = Job("{sft: {}, lora: {r: 2}, training: {max_steps: 1}}", "sft.jsonl");
  FillDefaults(request.launch.mutable_resolved_spec());
  ASSERT_EQ(RunRecorded(request).exit_code, kExitOk);
  std::string config = ReadAll(job_.Path("model/config.json"));
  const std::string size = "\"intermediate_size\":64";
  config.replace(config.find(size), size.size(), "\"intermediate_size\":48");
  job_.WriteFile("model/config.json", config);
  const auto refusal =
      Refusal("{sft: {}, lora: {adapter_uri: " + job_.Path("attempt/model") + "}}", "sft.jsonl");
  EXPECT_EQ(refusal.field(), "lora.adapter_uri");
  EXPECT_THAT(refusal.message(), AllOf(HasSubstr("_proj"), HasSubstr("64"), HasSubstr("48")));
}

TEST_F(BadInputJobTest, TargetModulesThatMatchNothing) {
  const auto refusal = Refusal("{sft: {}, lora: {target_modules: [query]}}", "sft.jsonl");
  EXPECT_EQ(refusal.field(), "lora.target_modules");
  EXPECT_THAT(refusal.message(), AllOf(HasSubstr("'query'"), HasSubstr("q_proj")));
}

TEST_F(BadInputJobTest, CheckpointingOfFewerThanOneBlock) {
  const auto job = [](int every) {
    return "{sft: {}, training: {gradient_checkpointing: true, gradient_checkpointing_every: " +
           std::to_string(every) + ", max_steps: 1}}";
  };
  const auto refusal = Refusal(job(3), "sft.jsonl");
  EXPECT_EQ(refusal.field(), "training.gradient_checkpointing_every");
  EXPECT_THAT(refusal.message(), HasSubstr("3 is more than the model's 2 blocks"));
  // A trainer by itself is not checked before.
  Request request = Job(job(3), "sft.jsonl");
  FillDefaults(request.launch.mutable_resolved_spec());
  EXPECT_EQ(RunRecorded(request).exit_code, kExitInvalidInput);
  request = Job(job(2), "sft.jsonl");
  FillDefaults(request.launch.mutable_resolved_spec());
  EXPECT_EQ(CheckJob(request, StopFlag()).violations_size(), 0);
}

TEST_F(BadInputJobTest, AParquetColumnOfTheWrongType) {
  const auto refusal = Refusal("{sft: {}, dataset: {format: TEXT}}",
                               SourceDir() + "/tests/golden/data/arrow/types.parquet");
  EXPECT_THAT(refusal.message(), AllOf(HasSubstr("types.parquet: row 1"), HasSubstr("timestamp"),
                                       HasSubstr("must be a string")));
}

TEST_F(BadInputJobTest, GzipCutShort) {
  WriteGzip("rows.jsonl.gz", ReadAll(job_.Path("sft.jsonl")));
  const std::string packed = ReadAll(job_.Path("rows.jsonl.gz"));
  job_.WriteFile("rows.jsonl.gz", packed.substr(0, packed.size() / 2));
  const auto refusal = Refusal("sft: {}", "rows.jsonl.gz");
  EXPECT_THAT(refusal.message(),
              AllOf(HasSubstr("rows.jsonl.gz: byte "), HasSubstr("the gzip stream is cut short")));
}

}  // namespace
}  // namespace liger::trainer
