// Runs that would go on from a checkpoint with another model at the place of their own.
#include "worker/trainer/loop/model_identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/spec/spec.h"
#include "tests/unit/loop/resumed_runs.h"
#include "worker/trainer/loop/check.h"
#include "worker/trainer/loop/exit_code.h"

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
  std::string config = ReadAll(job_.Path("model/config.json"));
  const std::string layers = "\"num_hidden_layers\":";
  const size_t at = config.find(layers);
  ASSERT_NE(at, std::string::npos);
  config[at + layers.size()] = config[at + layers.size()] == '1' ? '2' : '1';
  job_.WriteFile("model/config.json", config);
  const auto failed = GoOn(request).sink.Last(Event::kFailed).failed();
  EXPECT_EQ(failed.field(), "training.resume_from_checkpoint");
  EXPECT_THAT(failed.message(), HasSubstr("of another model: its parameters have other names or"));
  Training(request).set_resume_from_checkpoint(Checkpoint(job_.Path("first"), 3));
  const auto check = CheckJob(request, StopFlag());
  ASSERT_EQ(check.violations_size(), 1) << check.ShortDebugString();
  EXPECT_EQ(check.violations(0).field(), "training.resume_from_checkpoint");
}

}  // namespace
}  // namespace liger::trainer
