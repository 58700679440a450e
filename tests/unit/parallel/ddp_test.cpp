// DDP on ranks that are threads: a step's loss and all of its gradients are those of one device
// with the same global batch, within 1e-5, in fp32.
#include <gtest/gtest.h>

#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "tests/unit/models/golden.h"
#include "tests/unit/parallel/step_of_ranks.h"
#include "worker/trainer/data/sampler.h"
#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/objectives/sft.h"
#include "worker/trainer/parallel/gradient_reducer.h"

namespace liger::trainer {
namespace {

class DdpTest : public testing::TestWithParam<std::tuple<StepCase, int>> {};

TEST_P(DdpTest, IsOneDevice) {
  const auto& [c, world_size] = GetParam();
  ExpectOneDevice(c, world_size);
}

constexpr RowKind kPair = RowKind::kPair, kLabelled = RowKind::kLabelled;
// With 4 ranks of 2 rows, the 10 rows leave two ranks without any in the second micro-batch.
const StepCase kCases[] = {
    {.name = "sft", .spec = R"({"sft": {}})"},
    {.name = "sft_accumulated", .spec = R"({"sft": {}})", .micro_batches = 3},
    {.name = "sft_untied",
     .spec = R"({"sft": {}})",
     .model = "tiny/mha_untied_hub",
     .checkpointing = true,
     .micro_batches = 2},
    {.name = "sft_masked", .spec = R"({"sft": {}})", .rows_per_batch = 1, .masked = true},
    {.name = "sft_fewer_rows_than_ranks", .spec = R"({"sft": {}})", .rows_per_batch = 1, .rows = 1},
    {.name = "sft_lora", .spec = R"({"sft": {}})", .lora = true, .micro_batches = 2},
    {.name = "sft_bf16_sums", .spec = R"({"sft": {}})", .dtype = at::kBFloat16},
    {.name = "sft_mixtral",
     .spec = R"({"sft": {}})",
     .model = "tiny/mixtral_router_v5",
     .micro_batches = 2,
     .rows_per_batch = 1,
     .rows = 8,
     .as_micro_batches = true},
    {.name = "orpo", .spec = R"({"orpo": {"beta": 0.2}})", .kind = kPair, .micro_batches = 2},
    {.name = "orpo_untied",
     .spec = R"({"orpo": {}})",
     .kind = kPair,
     .model = "tiny/mha_untied_hub"},
    {.name = "cpo", .spec = R"({"cpo": {}})", .kind = kPair, .micro_batches = 2},
    {.name = "dpo", .spec = R"({"dpo": {}})", .kind = kPair, .micro_batches = 2},
    {.name = "dpo_lora", .spec = R"({"dpo": {}})", .kind = kPair, .lora = true},
    {.name = "kto", .spec = R"({"kto": {}})", .kind = kLabelled, .micro_batches = 2},
    {.name = "kto_lora", .spec = R"({"kto": {}})", .kind = kLabelled, .lora = true},
};

INSTANTIATE_TEST_SUITE_P(Cases, DdpTest,
                         testing::Combine(testing::ValuesIn(kCases), testing::Values(2, 4)),
                         [](const testing::TestParamInfo<std::tuple<StepCase, int>>& info) {
                           return std::string(std::get<0>(info.param).name) + "_on_" +
                                  std::to_string(std::get<1>(info.param));
                         });

// Buckets leave while the backward pass goes on, not after it.
TEST(GradientReducerTest, SendsUnderTheBackwardPass) {
  const auto gang = Gang::OfThreads(RankInfo(), c10::make_intrusive<c10d::HashStore>());
  const auto model = StepModel(kCases[0], "tiny/mha_untied_hub", false);
  TrainableParameters parameters(NamedLeaves(*model), {});
  GradientReducer reducer(parameters, *gang, {.bucket_bytes = 4 << 10});
  ASSERT_GT(reducer.num_buckets(), 4);
  const ExampleSet rows = Rows(kCases[0]);
  const Batch batch = EvalBatches(rows, 4)[0];
  SftObjective objective;
  const auto backward = [&] { golden::WholeStep(objective, *model, batch).loss.backward(); };

  backward();  // of an earlier micro-batch: nothing is sent
  reducer.BeginLastBackward();
  backward();
  const std::vector<at::Tensor> sums = reducer.Finish();
  EXPECT_EQ(reducer.sent_early(), reducer.num_buckets());
  parameters.ZeroGradients();
  backward();
  for (size_t i = 0; i < sums.size(); ++i) {
    ASSERT_TRUE(at::allclose(sums[i], 2 * parameters.Gradient(i), 1e-5, 1e-7)) << i;
  }

  // A gradient that comes after its bucket would be lost.
  parameters.ZeroGradients();
  reducer.BeginLastBackward();
  backward();
  EXPECT_THROW(backward(), c10::Error);
}

}  // namespace
}  // namespace liger::trainer
