#include "worker/trainer/optim/precision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

using liger::v1::TrainingSpec;

TEST(PrecisionTest, DefaultFollowsTheDevice) {
  EXPECT_EQ(ResolvePrecision(TrainingSpec(), /*on_gpu=*/false).compute, at::kFloat);
  const PrecisionPlan gpu = ResolvePrecision(TrainingSpec(), /*on_gpu=*/true);
  EXPECT_EQ(gpu.storage, at::kFloat);
  EXPECT_EQ(gpu.compute, at::kBFloat16);
  EXPECT_TRUE(gpu.has_compute_copy());
}

TEST(PrecisionTest, Bf16FlagIsMixed) {
  TrainingSpec training;
  training.set_bf16(true);
  const PrecisionPlan plan = ResolvePrecision(training, /*on_gpu=*/false);
  EXPECT_EQ(plan.storage, at::kFloat);
  EXPECT_EQ(plan.compute, at::kBFloat16);
  EXPECT_EQ(plan.gradient, at::kFloat);
}

TEST(PrecisionTest, StochasticKeepsEverythingInBf16) {
  TrainingSpec training;
  training.set_precision(liger::v1::PRECISION_BF16_STOCHASTIC);
  const PrecisionPlan plan = ResolvePrecision(training, false);
  EXPECT_EQ(plan.storage, at::kBFloat16);
  EXPECT_EQ(plan.optimizer, at::kBFloat16);
  EXPECT_EQ(plan.rounding, Rounding::kStochastic);
  EXPECT_FALSE(PrecisionWarning(plan).has_value());
}

TEST(PrecisionTest, NearestWarns) {
  TrainingSpec training;
  training.set_precision(liger::v1::PRECISION_BF16_NEAREST);
  const auto warning = PrecisionWarning(ResolvePrecision(training, false));
  ASSERT_TRUE(warning.has_value());
  EXPECT_EQ(warning->code(), "Bf16Nearest");
}

TEST(PrecisionTest, OverridesWinOverThePreset) {
  TrainingSpec training;
  training.set_precision(liger::v1::PRECISION_BF16_STOCHASTIC);
  training.set_optimizer_dtype(liger::v1::DTYPE_FP32);
  training.set_gradient_dtype(liger::v1::DTYPE_FP32);
  const PrecisionPlan plan = ResolvePrecision(training, false);
  EXPECT_EQ(plan.optimizer, at::kFloat);
  EXPECT_EQ(plan.gradient, at::kFloat);
  EXPECT_EQ(plan.storage, at::kBFloat16);
}

TEST(PrecisionTest, WhatIsNotImplementedIsRefusedByField) {
  TrainingSpec fp16;
  fp16.set_compute_dtype(liger::v1::DTYPE_FP16);
  TrainingSpec upcast;
  upcast.set_storage_dtype(liger::v1::DTYPE_BF16);
  upcast.set_compute_dtype(liger::v1::DTYPE_FP32);
  for (const TrainingSpec& training : {fp16, upcast}) {
    try {
      ResolvePrecision(training, false);
      FAIL() << "accepted";
    } catch (const TrainerError& error) {
      EXPECT_EQ(error.failure().field(), "training.compute_dtype");
      EXPECT_FALSE(error.failure().action().empty());
    }
  }
}

}  // namespace
}  // namespace liger::trainer
