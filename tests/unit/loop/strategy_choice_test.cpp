// The rule that chooses a strategy.
#include "worker/trainer/loop/strategy_choice.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/paths.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {
namespace {

TEST(ReduceDtypeTest, GradientsAreSummedAsTheyAreKept) {
  const PrecisionPlan fp32, bf16 = {.storage = at::kBFloat16,
                                    .compute = at::kBFloat16,
                                    .gradient = at::kBFloat16,
                                    .optimizer = at::kBFloat16};
  liger::v1::ParallelSpec parallel;
  EXPECT_EQ(ReduceDtype(parallel, fp32), at::kFloat);
  EXPECT_EQ(ReduceDtype(parallel, bf16), at::kBFloat16);
  parallel.set_reduce_dtype(liger::v1::DTYPE_FP32);
  EXPECT_EQ(ReduceDtype(parallel, bf16), at::kFloat);
  parallel.set_reduce_dtype(liger::v1::DTYPE_BF16);
  EXPECT_EQ(ReduceDtype(parallel, fp32), at::kBFloat16);
}

TEST(FsdpChoiceTest, ADeviceHoldsParametersGradientsStatesAndAReference) {
  const auto model = BuildModel(
      ModelConfig::FromFolder(SourceDir() + "/tests/golden/models/tiny/qwen3_v5"), {}, at::kMeta);
  int64_t numel = 0;
  for (const auto& parameter : model->parameters()) numel += parameter.numel();
  liger::v1::JobSpec sft, dpo;
  sft.mutable_sft();
  dpo.mutable_dpo();
  const PrecisionPlan fp32, mixed = {.compute = at::kBFloat16};
  EXPECT_EQ(WholeModelBytes(*model, sft, fp32), 16 * numel);
  EXPECT_EQ(WholeModelBytes(*model, sft, mixed), 18 * numel);
  EXPECT_EQ(WholeModelBytes(*model, dpo, mixed), 20 * numel);
  sft.mutable_training()->set_optim("lion");
  EXPECT_EQ(WholeModelBytes(*model, sft, fp32), 12 * numel);
  for (auto& parameter : model->parameters()) parameter.requires_grad_(false);
  EXPECT_EQ(WholeModelBytes(*model, sft, mixed), 2 * numel);
}

}  // namespace
}  // namespace liger::trainer
