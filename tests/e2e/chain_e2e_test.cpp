// Jobs that go on from each other's results, and what a person is told of which model was saved.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "tests/e2e/expectations.h"

namespace liger::e2e {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using v1::JobStatus;

class ChainE2e : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(cluster_.datasets() + "/pairs.jsonl")
        << R"({"prompt": "a", "chosen": "yes", "rejected": "no"}
{"prompt": "b", "chosen": "no", "rejected": "yes"}
)";
    // Other words than the training rows': evaluations soon get worse.
    std::ofstream rows(cluster_.datasets() + "/others.jsonl");
    for (const char* word : {"quartz", "jumbled", "vex"}) {
      rows << "{\"prompt\": \"" << word << "\", \"completion\": \"grey\"}\n";
    }
  }

  CliResult Submit(const std::string& name, const std::string& text, const std::string& flags) {
    const std::string file = cluster_.dir() + "/" + name + ".yaml";
    std::ofstream(file) << "name: " << name << "\nresources: {device_kind: CPU}\n" << text;
    const CliResult result = RunCli(cluster_, absl::StrCat("submit -f ", file, " ", flags));
    fs::remove(file);
    return result;
  }
  // Checked by a dry run, then run.
  void Run(const std::string& name, const std::string& text) {
    const CliResult checked = Submit(name, text, "--dry-run");
    EXPECT_EQ(checked.code, 0) << name << ": " << checked.out;
    const CliResult ran = Submit(name, text, "--wait");
    EXPECT_EQ(ran.code, 0) << name << ": " << ran.out;
    EXPECT_THAT(ran.out, HasSubstr(name + ": SUCCEEDED"));
  }

  Cluster cluster_{ClusterOptions{}};
};

constexpr char kTraining[] = "training: {max_steps: 3, max_length: 64}\n";
constexpr char kRows[] = "dataset: {uri: tiny.jsonl}\nsft: {}\n";
constexpr char kPairs[] = "dataset: {uri: pairs.jsonl}\ndpo: {}\n";

TEST_F(ChainE2e, AnOutputIsTheNextJobsModelOrAdapter) {
  const std::string whole = absl::StrCat(kTraining, "model: {uri: tiny, random_init: true}\n");
  Run("first", absl::StrCat(whole, kRows));
  Run("by-uri", absl::StrCat(kTraining, kPairs, "model: {uri: first}\n"));
  Run("by-name", absl::StrCat(kTraining, kPairs, "model: {name: ./first}\n"));
  Run("by-path",
      absl::StrCat(kTraining, kPairs, "model: {uri: ", cluster_.output("first"), "}\n"));
  const std::string on_first = absl::StrCat(kTraining, "model: {uri: first}\n");
  Run("adapter", absl::StrCat(on_first, kRows, "lora: {r: 4}\n"));
  Run("adapted", absl::StrCat(on_first, kPairs, "lora: {adapter_uri: adapter}\n"));

  // Out of the roots nothing leads, by the output root either.
  fs::rename(cluster_.output("first"), cluster_.dir() + "/elsewhere");
  fs::create_directory_symlink(cluster_.dir() + "/elsewhere", cluster_.output("first"));
  const CliResult link = Submit("link", absl::StrCat(on_first, kRows), "--dry-run");
  EXPECT_NE(link.code, 0);
  EXPECT_THAT(link.out, AllOf(HasSubstr("model.uri"), HasSubstr("leads out of")));
  const CliResult dots = Submit(
      "dots", absl::StrCat(kTraining, kRows, "model: {uri: ../elsewhere}\n"), "--dry-run");
  EXPECT_NE(dots.code, 0);
  EXPECT_THAT(dots.out, AllOf(HasSubstr("model.uri"), HasSubstr("output root")));
  fs::remove(cluster_.output("first"));
  fs::rename(cluster_.dir() + "/elsewhere", cluster_.output("first"));
  cluster_.ExpectIdle();
}

TEST_F(ChainE2e, WhatWasSavedAndWhatWasGoneOnFromIsTold) {
  const std::string job =
      "model: {uri: tiny, random_init: true}\n"
      "dataset: {uri: tiny.jsonl, eval_uri: others.jsonl}\nsft: {}\n"
      "training: {max_steps: 60, max_length: 64, learning_rate: 0.05, lr_scheduler_type: constant,"
      " eval_steps: 4, save_steps: 4, save_total_limit: 0, load_best_model_at_end: true,"
      " early_stopping_patience: 2}\n";
  const CliResult first = Submit("first", job, "--wait");
  ASSERT_EQ(first.code, 0) << first.out;
  const JobStatus status = cluster_.client().Get("first").status();
  ASSERT_TRUE(status.has_best());
  ASSERT_EQ(status.best().metric(), "eval_loss");
  double lowest = 1e30;
  int64_t step = 0;
  for (const auto& evaluation : status.evaluations()) {
    if (evaluation.step() == 0) continue;  // before training; it decides nothing
    const double loss = evaluation.values().at("eval_loss");
    if (loss < lowest) step = evaluation.step();
    lowest = std::min(lowest, loss);
  }
  EXPECT_EQ(status.best().value(), lowest);
  EXPECT_EQ(status.best().step(), step);
  EXPECT_EQ(status.saved_step(), step);
  EXPECT_EQ(status.best().stopped_after_step(), step + 8);
  const std::string saved = absl::StrCat("step ", step, ", of the best eval_loss (");
  const std::string stopped = absl::StrCat("stopped early after step ", step + 8);
  for (const CliResult& told :
       {first, RunCli(cluster_, "get first"), RunCli(cluster_, "events first"),
        RunCli(cluster_, "logs first")}) {
    EXPECT_THAT(told.out, AllOf(HasSubstr(saved), HasSubstr(stopped)));
  }

  const CliResult more = Submit("more", job, "--wait --set "
                                "training.resume_from_checkpoint=first.checkpoints/checkpoint-4");
  ASSERT_EQ(more.code, 0) << more.out;
  const std::string from = absl::StrCat("goes on from ", cluster_.output("first"),
                                        ".checkpoints/checkpoint-4, after step 4");
  for (const CliResult& told :
       {more, RunCli(cluster_, "get more"), RunCli(cluster_, "events more"),
        RunCli(cluster_, "logs more")}) {
    EXPECT_THAT(told.out, HasSubstr(from));
  }

  // The name and the place that comes with it are another job's: the rest is checked, and the exit
  // code is the submit's.
  const CliResult again = Submit("first", job, "--dry-run");
  EXPECT_EQ(again.code, 3) << again.out;
  EXPECT_THAT(again.out, AllOf(HasSubstr("a job named 'first' exists"), HasSubstr("--name"),
                               HasSubstr("liger-cli delete first"), HasSubstr("checked: data")));
  const CliResult bad = Submit("first", job, "--dry-run --set dataset.eval_uri=none.jsonl");
  EXPECT_NE(bad.code, 0);
  EXPECT_THAT(bad.out, HasSubstr("none.jsonl"));
  cluster_.ExpectIdle();
}

}  // namespace
}  // namespace liger::e2e
