// Runs that would go on from a checkpoint with another model at the place of their own.
#include "worker/trainer/loop/model_identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/spec/spec.h"
#include "tests/unit/loop/resumed_runs.h"
#include "worker/trainer/loop/check.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/model_settings.h"
#include "worker/trainer/loop/rank_agreement.h"
#include "worker/trainer/loop/run_state.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;
using Event = liger::trainer::v1::Event;
namespace fs = std::filesystem;

class OtherModelTest : public testing::Test {
 protected:
  // Model folders with weights, of one shape.
  void SetUp() override {
    for (const int seed : {1, 2}) {
      Request request = job_.Sft();
      Training(request).set_max_steps(1);
      Training(request).set_seed(seed);
      const std::string made = job_.Path("made" + std::to_string(seed));
      ASSERT_EQ(RunRecorded(In(request, made)).exit_code, kExitOk);
      fs::rename(made + "/model", job_.Path("weights" + std::to_string(seed)));
    }
    fs::copy(job_.Path("weights1"), job_.Path("base"));
  }
  Request OnBase(Request request) const {
    auto* model = request.launch.mutable_resolved_spec()->mutable_model();
    model->set_name(job_.Path("base"));
    model->set_random_init(false);
    return WithCheckpoints(std::move(request));
  }
  void PutOtherWeights() {
    fs::copy(job_.Path("weights2/model.safetensors"), job_.Path("base/model.safetensors"),
             fs::copy_options::overwrite_existing);
  }
  TaskOutcome GoOn(const Request& request) {
    return RunRecorded(From(In(request, job_.Path("rest")), Checkpoint(job_.Path("first"), 3)));
  }
  void SetConfig(const char* key, const nlohmann::json& value) {
    auto config = nlohmann::json::parse(ReadAll(job_.Path("model/config.json")));
    config[key] = value;
    job_.WriteFile("model/config.json", config.dump());
  }
  // That the run goes on with neither, by its CHECK and by itself.
  void ExpectRefused(Request request, const std::string& message) {
    const auto failed = GoOn(request).sink.Last(Event::kFailed).failed();
    EXPECT_EQ(failed.class_(), liger::v1::FAILURE_CLASS_CONFIG);
    EXPECT_EQ(failed.field(), "training.resume_from_checkpoint");
    EXPECT_THAT(failed.message(), HasSubstr(message));
    Training(request).set_resume_from_checkpoint(Checkpoint(job_.Path("first"), 3));
    const auto check = CheckJob(request, StopFlag());
    ASSERT_EQ(check.violations_size(), 1) << check.ShortDebugString();
    EXPECT_EQ(check.violations(0).field(), "training.resume_from_checkpoint");
    EXPECT_THAT(check.violations(0).message(), HasSubstr(message));
  }
  TinyJob job_;
};

// What was trained is all in the checkpoint.
TEST_F(OtherModelTest, AFullRunDoesNotHangOnWhatItBeganWith) {
  const Request request = OnBase(job_.Sft());
  ASSERT_EQ(RunRecorded(In(request, job_.Path("first"))).exit_code, kExitOk);
  PutOtherWeights();
  EXPECT_EQ(GoOn(request).exit_code, kExitOk);
}

TEST_F(OtherModelTest, AnAdapterAndAReferenceDo) {
  Request lora = OnBase(job_.Sft());
  lora.launch.mutable_resolved_spec()->mutable_lora()->set_r(4);
  FillDefaults(lora.launch.mutable_resolved_spec());
  for (const Request& request : {lora, OnBase(job_.Dpo())}) {
    fs::remove_all(job_.Path("base"));
    fs::copy(job_.Path("weights1"), job_.Path("base"));
    for (const char* folder : {"first", "rest"}) fs::remove_all(job_.Path(folder));
    ASSERT_EQ(RunRecorded(In(request, job_.Path("first"))).exit_code, kExitOk);
    const TaskOutcome same = GoOn(request);
    ASSERT_EQ(same.exit_code, kExitOk) << Failure(same);
    fs::remove_all(job_.Path("rest"));
    PutOtherWeights();
    const auto failed = GoOn(request).sink.Last(Event::kFailed).failed();
    EXPECT_EQ(failed.class_(), liger::v1::FAILURE_CLASS_CONFIG);
    EXPECT_EQ(failed.field(), "training.resume_from_checkpoint");
    EXPECT_THAT(failed.message(), HasSubstr("of another model: what it builds on had other"));
  }
}

// In the CHECK already.
TEST_F(OtherModelTest, AnotherShapeIsRefusedByEverybody) {
  Request request = WithCheckpoints(job_.Sft());
  ASSERT_EQ(RunRecorded(In(request, job_.Path("first"))).exit_code, kExitOk);
  SetConfig("num_hidden_layers", 1);
  ExpectRefused(request, "of another model: its parameters have other names or");
}

// The same shapes, of which another function is made.
TEST_F(OtherModelTest, OtherSettingsAreRefusedByEverybody) {
  const Request request = WithCheckpoints(job_.Sft());
  ASSERT_EQ(RunRecorded(In(request, job_.Path("first"))).exit_code, kExitOk);
  const std::string is_another =
      " is of another model: " + job_.Path("model/config.json") + " says ";
  SetConfig("rope_theta", 500000.0);
  ExpectRefused(request, is_another + "rope_theta 500000.0, and said 10000.0 when the run began");
  SetConfig("rope_theta", 10000.0);
  SetConfig("num_attention_heads", 8);
  SetConfig("num_key_value_heads", 4);
  SetConfig("head_dim", 4);
  fs::remove_all(job_.Path("rest"));
  ExpectRefused(request, is_another + "head_dim 4, and said 8 when");
}

TEST_F(OtherModelTest, SettingsThatDecideNothingMayChange) {
  const Request request = WithCheckpoints(job_.Sft());
  ASSERT_EQ(RunRecorded(In(request, job_.Path("first"))).exit_code, kExitOk);
  SetConfig("max_position_embeddings", 512);
  SetConfig("initializer_range", 0.1);
  SetConfig("_name_or_path", "elsewhere");
  const TaskOutcome rest = GoOn(request);
  EXPECT_EQ(rest.exit_code, kExitOk) << Failure(rest);
}

TEST_F(OtherModelTest, AChangedTokenizerIsToldAndIsNamedWhereRowsDiffer) {
  const std::string path = job_.Path("model/tokenizer.json");
  const Request request = WithCheckpoints(job_.Sft());
  ASSERT_EQ(RunRecorded(In(request, job_.Path("first"))).exit_code, kExitOk);
  const std::string tokenizer = ReadAll(path);
  job_.WriteFile("model/tokenizer.json", tokenizer + "\n");
  const TaskOutcome same = GoOn(request);
  EXPECT_EQ(same.exit_code, kExitOk) << Failure(same);
  const auto warnings = same.sink.All(Event::kWarning);
  const auto told = std::ranges::find_if(
      warnings, [](const Event& event) { return event.warning().code() == "TokenizerChanged"; });
  ASSERT_NE(told, warnings.end());
  EXPECT_EQ(told->warning().file(), path);
  EXPECT_THAT(told->warning().message(), testing::StartsWith(path + " has changed since the run"));

  auto other = nlohmann::json::parse(tokenizer);
  auto& vocabulary = other["model"]["vocab"];
  std::swap(vocabulary["r"], vocabulary["q"]);
  job_.WriteFile("model/tokenizer.json", other.dump());
  fs::remove_all(job_.Path("rest"));
  const auto failed = GoOn(request).sink.Last(Event::kFailed).failed();
  EXPECT_EQ(failed.class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_THAT(failed.message(), HasSubstr("; " + path + " has changed since the run began"));
}

// Checkpoints of earlier releases say nothing of either.
TEST_F(OtherModelTest, WhatACheckpointDoesNotSayIsNotCompared) {
  RunState state;
  state.RequireSameSettings({{"rope_theta", "1.0"}}, "m", "c");
  EXPECT_EQ(state.ChangedTextFile({{"tokenizer.json", "sha256:1"}}, "m"), "");
}

// Settings of other rope types have other keys; the one to look at is the type.
TEST(RankAgreementTest, ADifferenceIsNamedByItsKey) {
  const auto settings = [](RopeConfig::Type type) {
    ModelConfig config;
    config.rope.type = type;
    const auto known = SettingsOf(config);
    return Facts(known.begin(), known.end());
  };
  const Facts plain = settings(RopeConfig::Type::kDefault);
  const Facts yarn = settings(RopeConfig::Type::kYarn);
  EXPECT_EQ(DifferenceOf(plain, plain), "");
  EXPECT_EQ(DifferenceOf(plain, yarn), "rope_type: \"yarn\" and \"default\"");
  EXPECT_EQ(DifferenceOf(yarn, plain), "rope_type: \"default\" and \"yarn\"");
  EXPECT_EQ(DifferenceOf({{"a", "1"}}, {{"a", "1"}, {"b", "2"}}), "b: 2 and nothing");
  EXPECT_EQ(DifferenceOf({{"a", "1"}, {"b", "2"}}, {{"a", "1"}}), "b: nothing and 2");
}

}  // namespace
}  // namespace liger::trainer
