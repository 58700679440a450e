// Bad input as `submit --dry-run` tells it to a person: each is found by the coordinator or by a
// CHECK on a worker, with its place and what to do. In more detail, within one process:
// tests/unit/loop/bad_input_job_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "tests/e2e/expectations.h"

namespace liger::e2e {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr char kGolden[] = LIGER_SOURCE_DIR "/tests/golden/";

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
    fs::copy(std::string(kGolden) + "data/arrow/types.parquet",
             cluster_->datasets() + "/types.parquet");
    fs::copy(std::string(kGolden) + "models/lora/plain/adapter", cluster_->models() + "/adapter");
  }
  static void TearDownTestSuite() { cluster_.reset(); }

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
  EXPECT_THAT(dropped.out, HasSubstr("1 of 2 training rows are dropped: the prompt fills"));
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
  EXPECT_THAT(smoothed.out, HasSubstr("dpo.label_smoothing has no effect"));
}

}  // namespace
}  // namespace liger::e2e
