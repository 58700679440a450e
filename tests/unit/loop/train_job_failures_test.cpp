// Jobs that fail or are stopped: what they say, and that they leave no output.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/reporter.h"
#include "worker/trainer/loop/run_task.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;
using Event = liger::trainer::v1::Event;
namespace fs = std::filesystem;

TEST(TrainJobFailuresTest, LossThatIsNotFiniteFailsTheJobWithItsStep) {
  const TinyJob job;
  Request request = job.Sft();
  auto* training = request.launch.mutable_resolved_spec()->mutable_training();
  training->set_learning_rate(1e30);
  training->set_max_grad_norm(0);
  const TaskOutcome outcome = RunRecorded(request);
  EXPECT_EQ(outcome.exit_code, kExitFailed);
  const auto failure = outcome.sink.Last(Event::kFailed).failed();
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_NAN);
  EXPECT_GE(failure.step(), 2);
  EXPECT_THAT(failure.message(), HasSubstr("at step " + std::to_string(failure.step())));
  EXPECT_THAT(failure.action(), HasSubstr("learning_rate"));
  EXPECT_FALSE(fs::exists(job.Path("attempt/model")));
  EXPECT_TRUE(outcome.sink.All(Event::kSaved).empty());
  EXPECT_TRUE(outcome.sink.All(Event::kDone).empty());
}

// Nothing is computed with the parameters of the last update, if there is no
// evaluation, before they are saved.
TEST(TrainJobFailuresTest, ParametersThatAreNotFiniteAreNotSaved) {
  for (const double learning_rate : {1e30, 1e39}) {
    const TinyJob job;
    Request request = job.Sft();
    auto* spec = request.launch.mutable_resolved_spec();
    spec->mutable_dataset()->set_eval_fraction(0);
    spec->mutable_training()->set_eval_on_start(false);
    spec->mutable_training()->set_max_steps(1);
    spec->mutable_training()->set_learning_rate(learning_rate);
    const TaskOutcome outcome = RunRecorded(request);
    EXPECT_EQ(outcome.exit_code, kExitFailed) << learning_rate;
    const auto failure = outcome.sink.Last(Event::kFailed).failed();
    EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_NAN);
    EXPECT_EQ(failure.step(), 1);
    EXPECT_THAT(failure.message(), HasSubstr("model.embed_tokens.weight"));
    EXPECT_THAT(failure.action(), HasSubstr("learning_rate"));
    EXPECT_FALSE(fs::exists(job.Path("attempt/model")));
    EXPECT_TRUE(outcome.sink.All(Event::kSaved).empty());
  }
}

TEST(TrainJobFailuresTest, EvaluationLossThatIsNotFiniteFailsTheJob) {
  const TinyJob job;
  std::string config = ReadAll(job.Path("model/config.json"));
  const std::string range = "\"initializer_range\":0.05";
  ASSERT_NE(config.find(range), std::string::npos);
  config.replace(config.find(range), range.size(), "\"initializer_range\":1e38");
  job.WriteFile("model/config.json", config);
  const TaskOutcome outcome = RunRecorded(job.Sft());
  EXPECT_EQ(outcome.exit_code, kExitFailed);
  const auto failure = outcome.sink.Last(Event::kFailed).failed();
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_NAN);
  EXPECT_THAT(failure.message(), HasSubstr("eval_loss"));
  EXPECT_THAT(failure.action(), HasSubstr("model's weights"));
  EXPECT_TRUE(outcome.sink.All(Event::kEval).empty());
}

TEST(TrainJobFailuresTest, BadRowFailsWithItsNumber) {
  const TinyJob job;
  std::string rows = ReadAll(job.Path("sft.jsonl"));
  job.WriteFile("sft.jsonl", rows + "{\"prompt\": \"x\", \"completion\": \n");
  const TaskOutcome outcome = RunRecorded(job.Sft());
  EXPECT_EQ(outcome.exit_code, kExitInvalidInput);
  const auto failure = outcome.sink.Last(Event::kFailed).failed();
  EXPECT_EQ(failure.class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(failure.row(), 25);
}

TEST(TrainJobFailuresTest, StopEndsWithoutOutput) {
  const TinyJob job;
  RecordingSink sink;
  Reporter reporter({&sink});
  StopFlag stop;
  stop.Request("cancelled by test");
  EXPECT_EQ(RunTask(job.Sft(), reporter, stop), kExitStopped);
  EXPECT_TRUE(sink.All(Event::kFailed).empty());
  EXPECT_FALSE(fs::exists(job.Path("attempt/model")));
}

TEST(TrainJobFailuresTest, MoreThanOneRankIsRefusedByName) {
  const TinyJob job;
  setenv("WORLD_SIZE", "2", 1);
  const TaskOutcome outcome = RunRecorded(job.Sft());
  unsetenv("WORLD_SIZE");
  EXPECT_EQ(outcome.exit_code, kExitInvalidInput);
  EXPECT_EQ(outcome.sink.Last(Event::kFailed).failed().field(), "resources.count");
}

}  // namespace
}  // namespace liger::trainer
