#include "worker/trainer/loop/progress.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace liger::trainer {
namespace {

StepResult Result(double loss, double tokens) {
  StepResult result;
  result.num_tokens = int64_t(tokens);
  result.grad_norm = loss;
  result.metrics.Add("loss", at::scalar_tensor(loss * tokens), tokens);
  return result;
}

TEST(ProgressTest, MeansOverTheWindowRatesOverItsTime) {
  Progress progress;
  progress.AddStep(Result(4.0, 100), 1e-3, absl::Seconds(1));
  progress.AddStep(Result(1.0, 300), 5e-4, absl::Seconds(3));
  const Progress::Logged logged = progress.TakeLogged(0.5);
  EXPECT_NEAR(logged.values.at("loss"), (4.0 * 100 + 1.0 * 300) / 400, 1e-6);
  EXPECT_EQ(logged.values.at("grad_norm"), 1.0);
  EXPECT_EQ(logged.values.at("learning_rate"), 5e-4);
  EXPECT_EQ(logged.values.at("epoch"), 0.5);
  EXPECT_EQ(logged.values.at("num_tokens"), 400);
  EXPECT_DOUBLE_EQ(logged.tokens_per_second, 100);
  EXPECT_DOUBLE_EQ(logged.step_seconds, 2);
}

TEST(ProgressTest, EachLogStartsAnew) {
  Progress progress;
  progress.AddStep(Result(4.0, 100), 1e-3, absl::Seconds(1));
  progress.TakeLogged(0);
  progress.AddStep(Result(2.0, 50), 1e-3, absl::Seconds(1));
  const Progress::Logged logged = progress.TakeLogged(0);
  EXPECT_NEAR(logged.values.at("loss"), 2.0, 1e-6);
  EXPECT_EQ(logged.values.at("num_tokens"), 150) << "since the start of the attempt";
  EXPECT_DOUBLE_EQ(progress.mean_tokens_per_second(), 75);
}

}  // namespace
}  // namespace liger::trainer
