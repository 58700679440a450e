// Bad input as `submit --dry-run` tells it to a person: each is found by the coordinator or by a
// CHECK on a worker, with its place and what to do. In more detail, within one process:
// tests/unit/loop/bad_input_job_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "tests/e2e/expectations.h"
#include "tests/paths.h"

namespace liger::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

const std::string kGolden = SourceDir() + "/tests/golden/";

class DryRunE2e : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    cluster_ = std::make_unique<Cluster>(ClusterOptions{});
    Write("pairs.jsonl",
          R"({"prompt": "a", "chosen": "yes", "rejected": "no"}
{"prompt": "b", "chosen": "yes", "rejected": "yes"}
)");
    Write("wanted.jsonl",
          R"({"prompt": "a", "completion": "b", "label": true}
{"prompt": "c", "completion": "d", "label": true}
)");
    Write("labelled.jsonl",
          R"({"prompt": "a", "completion": "b", "label": true}
{"prompt": "c", "completion": "d", "label": false}
)");
    const std::string prompt(80, 'p');
    const std::string long_row = "{\"prompt\": \"" + prompt + "\", \"completion\": \"b\"}\n";
    Write("all_long.jsonl", long_row);
    Write("long.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n" + long_row);
    Write("cut.jsonl.gz", std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\x56", 12));
    fs::copy(kGolden + "data/arrow/types.parquet", cluster_->datasets() + "/types.parquet");
    fs::copy(std::string(kGolden) + "models/lora/plain/adapter", cluster_->models() + "/adapter");
  }
  static void TearDownTestSuite() {
    // A worker that stops before the coordinator has taken the end of a task keeps its folder.
    if (cluster_ != nullptr) cluster_->ExpectIdle();
    cluster_.reset();
  }

  static void Write(const std::string& name, const std::string& text) {
    std::ofstream(cluster_->datasets() + "/" + name, std::ios::binary) << text;
  }

  // `method` is the job's method with its options, and more of the spec.
  static CliResult DryRun(const std::string& rows, const std::string& method) {
    const std::string file = cluster_->dir() + "/job.yaml";
    std::ofstream(file) << "model: {uri: tiny, random_init: true}\n"
                        << "resources: {device_kind: CPU}\n"
                        << "dataset: {uri: " << rows << "}\n"
                        << method << "\n";
    const CliResult result =
        RunCli(*cluster_, absl::StrCat("submit --dry-run -f ", file,
                                       " --set training.max_length=64"));
    fs::remove(file);
    return result;
  }

  static inline std::unique_ptr<Cluster> cluster_;
};

struct BadInput {
  std::string rows, method;
  std::vector<std::string> said;
};

TEST_F(DryRunE2e, BadInputIsRefusedWithItsPlaceAndARemedy) {
  const BadInput all[] = {
      {"pairs.jsonl", "dpo: {loss_type: sigmod}", {"dpo.loss_type", "'sigmod'", "one of"}},
      {"tiny.jsonl",
       "sft: {response_template: 'A:', completion_only_loss: true}",
       {"sft.completion_only_loss", "keep one"}},
      {"tiny.jsonl",
       "sft: {}\ntraining: {lr_scheduler_type: cosine_with_min_lr}",
       {"training.lr_scheduler_kwargs", "exactly one of min_lr and min_lr_rate"}},
      {"wanted.jsonl", "kto: {}", {"wanted.jsonl: all 2 rows", "label: true", "both labels"}},
      {"labelled.jsonl",
       "kto: {}\ntraining: {per_device_train_batch_size: 1}",
       {"training.per_device_train_batch_size", "at least 2"}},
      {"all_long.jsonl",
       "sft: {}",
       {"all_long.jsonl: no rows are left", "raise training.max_length"}},
      {"tiny.jsonl",
       "sft: {}\nlora: {target_modules: [query]}",
       {"lora.target_modules", "'query'"}},
      {"tiny.jsonl",
       absl::StrCat("sft: {}\nlora: {adapter_uri: ", cluster_->models(), "/adapter}"),
       {"lora.adapter_uri", "_proj"}},
      {"types.parquet",
       "sft: {}",
       {"types.parquet: row 1: column completion (of type double)", "must be a string"}},
      {"cut.jsonl.gz", "sft: {}", {"cut.jsonl.gz: byte 12", "the gzip stream is cut short"}},
      {"tiny.jsonl", "kto: {}", {"tiny.jsonl: row 1", "label", "chosen and rejected"}},
      {"tiny.jsonl", "orpo: {}", {"tiny.jsonl: row 1", "prompt, chosen and rejected"}},
      {"pairs.jsonl", "sft: {}", {"pairs.jsonl: row 1", "sft cannot train on preference rows"}},
      {"tiny.jsonl",
       "sft: {}\ntraining: {gradient_checkpointing: true, gradient_checkpointing_every: 9}",
       {"training.gradient_checkpointing_every: 9 is more than the model's 2 blocks"}},
  };
  for (const BadInput& bad : all) {
    SCOPED_TRACE(absl::StrCat(bad.rows, " ", bad.method));
    const CliResult result = DryRun(bad.rows, bad.method);
    EXPECT_EQ(result.code, 3) << result.out;
    for (const std::string& said : bad.said) EXPECT_THAT(result.out, HasSubstr(said));
  }
}

TEST_F(DryRunE2e, WhatIsNoErrorIsSaid) {
  const CliResult dropped = DryRun("long.jsonl", "sft: {}");
  EXPECT_EQ(dropped.code, 0) << dropped.out;
  EXPECT_THAT(dropped.out, HasSubstr("1 of 2 training rows was dropped (row 2): the prompt fills"));
  for (const char* method : {"dpo: {}", "orpo: {}", "cpo: {}", "kto: {}"}) {
    const CliResult equal = DryRun("pairs.jsonl", method);
    EXPECT_EQ(equal.code, 0) << equal.out;
    EXPECT_THAT(equal.out, HasSubstr("in 1 of 2 training rows chosen and rejected are the same"))
        << method;
  }
  // The spec's own.
  const CliResult sorted =
      DryRun("pairs.jsonl", "dpo: {loss_type: [aot]}\ntraining: {per_device_train_batch_size: 1}");
  EXPECT_EQ(sorted.code, 0) << sorted.out;
  EXPECT_THAT(sorted.out, HasSubstr("dpo.loss_type aot sorts the pairs of a micro-batch"));
  const CliResult smoothed = DryRun("pairs.jsonl", "dpo: {loss_type: [ipo], label_smoothing: 0.1}");
  EXPECT_EQ(smoothed.code, 0) << smoothed.out;
  EXPECT_THAT(smoothed.out, HasSubstr("warning: dpo.label_smoothing has no effect"));
}

// A model whose tokenizer merges "ab" and names no eos_token.
void WriteMergingModel(const std::string& from, const std::string& to) {
  fs::copy(from, to);
  json tokenizer = json::parse(std::ifstream(to + "/tokenizer.json"));
  json& model = tokenizer["model"];
  model["vocab"]["ab"] = model["vocab"].at("~");
  model["vocab"].erase("~");
  model["merges"] = {"a b"};
  std::ofstream(to + "/tokenizer.json") << tokenizer;
  std::ofstream(to + "/tokenizer_config.json") << R"({"pad_token": "<|endoftext|>"})";
}

// What a trainer's own --check says is in the dry run's answer, and then in the job's status and
// events.
TEST_F(DryRunE2e, WhatTheTrainerWarnsOfReachesTheUser) {
  WriteMergingModel(cluster_->models() + "/tiny", cluster_->models() + "/merging");
  Write("merging.jsonl", R"({"prompt": "xa", "completion": "b"}
{"prompt": "xy", "completion": ""}
{"prompt": "xy", "completion": "yes"}
)");
  const std::string file = cluster_->datasets() + "/merging.yaml";
  std::ofstream(file) << "model: {uri: merging, random_init: true}\n"
                         "resources: {device_kind: CPU}\n"
                         "dataset: {uri: merging.jsonl, max_eval_samples: 3}\n"
                         "sft: {completion_only_loss: false}\n"
                         "training: {precision: BF16_NEAREST, max_steps: 1, max_length: 1024}\n";
  const std::vector<std::string> warnings = {
      "dataset.max_eval_samples has no effect",
      "bf16 parameters rounded to nearest",
      "max_length 1024 is more than the 512 positions",
      "the tokenizer names no eos_token",
      "merging.jsonl: in 1 of 3 training rows an answer is empty",
      "merging.jsonl: in 1 of 3 training rows tokens merge across the end of the prompt"};
  const std::string submit = absl::StrCat("submit -f ", file, " --name merging");
  const CliResult text = RunCli(*cluster_, submit + " --dry-run");
  EXPECT_EQ(text.code, 0) << text.out;
  for (const std::string& warning : warnings) EXPECT_THAT(text.out, HasSubstr(warning));

  // The answer as `output` has it behind what a person is told.
  const auto document = [](const CliResult& result) {
    const json parsed = json::parse(result.out.substr(result.out.find("{\n")), nullptr, false);
    EXPECT_TRUE(parsed.is_object()) << result.out;
    return parsed;
  };
  const auto expect_all = [&](const json& said) {
    ASSERT_EQ(said.size(), warnings.size()) << said.dump(1);
    for (size_t i = 0; i < warnings.size(); ++i) {
      EXPECT_THAT(said[i].at("message").get<std::string>(), HasSubstr(warnings[i]));
      EXPECT_FALSE(said[i].at("code").get<std::string>().empty());
    }
  };
  expect_all(document(RunCli(*cluster_, submit + " --dry-run -o json")).at("warnings"));

  EXPECT_THAT(RunCli(*cluster_, submit).out,
              testing::AllOf(HasSubstr("warning: " + warnings[0]), HasSubstr("submitted")));
  cluster_->client().WaitForState("merging", v1::JobStatus::SUCCEEDED);
  expect_all(document(RunCli(*cluster_, "get merging -o json")).at("status").at("warnings"));
  std::vector<std::string> events;
  const json told = document(RunCli(*cluster_, "events merging -o json"));
  for (const json& event : told.at("events")) {
    if (event.at("type") == "Warning") events.push_back(event.at("message"));
  }
  EXPECT_EQ(events.size(), warnings.size()) << "told once, by the check";
  cluster_->ExpectIdle();
}

}  // namespace
}  // namespace liger::e2e
