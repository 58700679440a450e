#include "worker/trainer/loop/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/file.h"
#include "tests/unit/loop/tiny_job.h"

namespace liger::trainer {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

liger::trainer::v1::CheckResult Check(const Request& request) {
  return CheckJob(request, StopFlag());
}

TEST(CheckTest, GoodJobHasNoViolationsAndCountsItsData) {
  const TinyJob job;
  const auto result = Check(job.Sft());
  EXPECT_EQ(result.violations_size(), 0) << result.ShortDebugString();
  EXPECT_THAT(result.checks_run(), Contains("data"));
  EXPECT_EQ(result.stats().at("rows") + result.stats().at("eval_rows"), 24);
  EXPECT_GT(result.stats().at("tokens"), 0);
  EXPECT_GT(result.stats().at("parameters"), 10000);
}

TEST(CheckTest, MissingWeightsAndBadDataAreBothReported) {
  const TinyJob job;
  Request request = job.Sft();
  request.launch.mutable_resolved_spec()->mutable_model()->set_random_init(false);
  job.WriteFile("sft.jsonl", "{\"prompt\": \"x\", \"completion\": \"y\"}\n{\"prompt\": \"x\"\n");
  const auto result = Check(request);
  ASSERT_EQ(result.violations_size(), 2) << result.ShortDebugString();
  EXPECT_EQ(result.violations(0).field(), "model");
  EXPECT_EQ(result.violations(1).line(), 2);
  EXPECT_THAT(result.violations(1).file(), HasSubstr("sft.jsonl"));
}

TEST(CheckTest, UnimplementedConfigIsNamedAndDataIsSkipped) {
  const TinyJob job;
  std::string config = ReadAll(job.Path("model/config.json"));
  const std::string silu = "\"hidden_act\":\"silu\"";
  config.replace(config.find(silu), silu.size(), "\"hidden_act\":\"relu2\"");
  job.WriteFile("model/config.json", config);
  const auto result = Check(job.Sft());
  ASSERT_EQ(result.violations_size(), 1) << result.ShortDebugString();
  EXPECT_THAT(result.violations(0).message(), HasSubstr("relu2"));
  EXPECT_THAT(result.checks_skipped(), Contains("data"));
}

TEST(CheckTest, MissingPathStopsTheRest) {
  const TinyJob job;
  Request request = job.Sft();
  request.launch.mutable_resolved_spec()->mutable_dataset()->set_uri(job.Path("absent.jsonl"));
  const auto result = Check(request);
  ASSERT_EQ(result.violations_size(), 1);
  EXPECT_EQ(result.violations(0).field(), "dataset.name");
  EXPECT_THAT(result.violations(0).message(), HasSubstr("absent.jsonl"));
}

TEST(CheckTest, DigestsAreCompared) {
  const TinyJob job;
  Request request = job.Sft();
  auto* spec = request.launch.mutable_resolved_spec();
  spec->mutable_dataset()->set_digest(*Sha256File(job.Path("sft.jsonl")));
  EXPECT_EQ(Check(request).violations_size(), 0);
  job.WriteFile("sft.jsonl", ReadAll(job.Path("sft.jsonl")) + "\n");
  const auto changed = Check(request);
  ASSERT_EQ(changed.violations_size(), 1);
  EXPECT_EQ(changed.violations(0).field(), "dataset.digest");
  spec->mutable_dataset()->clear_digest();
  spec->mutable_model()->set_digest("sha256:00");
  ASSERT_EQ(Check(request).violations_size(), 1);
  EXPECT_EQ(Check(request).violations(0).field(), "model.digest");
}

TEST(CheckTest, ReadsAtMostTheRowsAskedFor) {
  const TinyJob job;
  Request request = job.Sft();
  request.launch.mutable_resolved_spec()->mutable_dataset()->set_eval_fraction(0);
  request.launch.set_check_max_rows(5);
  EXPECT_EQ(Check(request).stats().at("rows"), 5);
}

}  // namespace
}  // namespace liger::trainer
