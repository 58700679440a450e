#include "worker/trainer/optim/schedule.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "tests/unit/optim/fixture.h"
#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

TEST(ScheduleTest, EveryRateIsTransformers) {
  for (const auto& golden : OptimFixture()["schedules"]) {
    liger::v1::LrSchedulerKwargs kwargs;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(golden["kwargs"].dump(), &kwargs).ok());
    const LrSchedule schedule(golden["type"], golden["lr"], golden["warmup"], golden["total"],
                              kwargs);
    for (int64_t step = 0; step < golden["total"]; ++step) {
      EXPECT_NEAR(schedule.LearningRate(step), golden["rates"][step].get<double>(), 1e-18)
          << golden["type"] << " " << golden["kwargs"] << " warmup " << golden["warmup"] << " of "
          << golden["total"] << " at step " << step;
    }
  }
}

TEST(ScheduleTest, WarmupRatioIsRoundedUp) {
  for (const auto& golden : OptimFixture()["warmup"]) {
    liger::v1::TrainingSpec training;
    training.set_warmup_ratio(golden["ratio"]);
    EXPECT_EQ(LrSchedule::FromSpec(training, golden["total"]).warmup_steps(), golden["steps"]);
    training.clear_warmup_ratio();
    training.set_warmup_steps(golden["ratio"]);
    EXPECT_EQ(LrSchedule::FromSpec(training, golden["total"]).warmup_steps(), golden["steps"]);
  }
}

TEST(ScheduleTest, WarmupStepsWinWhenGiven) {
  liger::v1::TrainingSpec training;
  training.set_warmup_steps(4);
  EXPECT_EQ(LrSchedule::FromSpec(training, 100).warmup_steps(), 4);
}

TEST(ScheduleTest, UnknownNameIsRefusedByName) {
  try {
    LrSchedule("cosine_with_restarts", 1e-3, 0, 10);
    FAIL() << "accepted";
  } catch (const TrainerError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("cosine_with_restarts"));
    EXPECT_EQ(error.failure().field(), "training.lr_scheduler_type");
  }
}

}  // namespace
}  // namespace liger::trainer
