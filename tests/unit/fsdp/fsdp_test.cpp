// Sharded training is single-device training: losses and the whole gradient of a step with the
// same global batch within 1e-5 (relative L2), in fp32, and the losses of the step after the
// update. Ranks are threads.
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/fsdp/cases.h"

namespace liger::trainer {
namespace {

using namespace testing_fsdp;

class FsdpTest : public testing::TestWithParam<Case> {};

TEST_P(FsdpTest, IsSingleDevice) {
  const Case& c = GetParam();
  const Outcome expected = RunSingle(c), actual = RunSharded(c);
  // Sums in bf16 are within its rounding, and losses of steps that follow on them likewise.
  const bool exact = c.reduce == at::kFloat;
  const double tolerance = exact ? kTolerance : 1e-2;
  ASSERT_EQ(actual.losses.size(), expected.losses.size());
  for (int step = 0; step < kSteps; ++step) {
    EXPECT_NEAR(actual.losses[step], expected.losses[step],
                (step == 0 ? kTolerance : tolerance) * expected.losses[step])
        << "step " << step;
  }
  EXPECT_NE(expected.losses[0], expected.losses[2]) << "nothing was learnt";
  ASSERT_EQ(actual.gradient.size(), expected.gradient.size());
  for (const auto& [name, gradient] : expected.gradient) {
    ASSERT_TRUE(actual.gradient.contains(name)) << name;
    EXPECT_LT(RelativeError(actual.gradient.at(name), gradient), exact ? 1e-4 : 1e-2) << name;
  }
  EXPECT_LT(RelativeError(actual.gradient, expected.gradient), tolerance);
  EXPECT_NEAR(actual.norm, expected.norm, tolerance * expected.norm);
  if (!c.compares_movement) return;
  EXPECT_LT(RelativeError(Moved(c, actual.parameters), Moved(c, expected.parameters)), tolerance);
}

INSTANTIATE_TEST_SUITE_P(
    Strategies, FsdpTest,
    testing::Values(
        Case{"untied_1", kUntied, 1, 1}, Case{"untied_2", kUntied, 2, 2},
        Case{"untied_4", kUntied, 4, 4}, Case{"untied_hybrid_2x2", kUntied, 4, 2},
        Case{"tied_2", kTied, 2, 2}, Case{"tied_4", kTied, 4, 4},
        Case{.name = "masked_rank_untied_4", .folder = kUntied, .ranks = 4, .shards = 4,
             .masked = true},
        Case{.name = "masked_rank_hybrid_tied_2x2", .folder = kTied, .ranks = 4, .shards = 2,
             .masked = true},
        Case{.name = "baseline_tied_2", .folder = kTied, .ranks = 2, .shards = 2,
             .kernels = "BASELINE"},
        Case{.name = "checkpointed_untied_4", .folder = kUntied, .ranks = 4, .shards = 4,
             .checkpoint = true},
        Case{.name = "hybrid_tied_checkpointed_2x2", .folder = kTied, .ranks = 4, .shards = 2,
             .checkpoint = true},
        Case{.name = "bf16_sums_untied_2", .folder = kUntied, .ranks = 2, .shards = 2,
             .reduce = at::kBFloat16},
        Case{.name = "bf16_sums_tied_checkpointed_4", .folder = kTied, .ranks = 4, .shards = 4,
             .checkpoint = true, .reduce = at::kBFloat16},
        Case{"mixtral_4", "mixtral_router_v5", 4, 4},
        Case{"mixtral_hybrid_2x2", "mixtral_router_v5", 4, 2},
        Case{.name = "mixtral_2", .folder = "mixtral_router_v5", .ranks = 2, .shards = 2},
        Case{.name = "mixtral_checkpointed_4", .folder = "mixtral_router_v5", .ranks = 4,
             .shards = 4, .checkpoint = true},
        Case{.name = "gemma2_2", .folder = "gemma2_v5", .ranks = 2, .shards = 2},
        Case{.name = "keeps_after_forward_2", .folder = kUntied, .ranks = 2, .shards = 2,
             .reshard = false},
        Case{.name = "zero2_untied_2", .folder = kUntied, .ranks = 2, .shards = 2,
             .shards_parameters = false},
        Case{.name = "zero2_checkpointed_tied_4", .folder = kTied, .ranks = 4, .shards = 4,
             .checkpoint = true, .shards_parameters = false},
        Case{.name = "lora_4", .folder = kTied, .ranks = 4, .shards = 4, .lora = true},
        Case{.name = "lora_hybrid_2x2", .folder = kUntied, .ranks = 4, .shards = 2, .lora = true},
        Case{.name = "lora_2", .folder = kUntied, .ranks = 2, .shards = 2, .lora = true},
        Case{.name = "lora_checkpointed_tied_4", .folder = kTied, .ranks = 4, .shards = 4,
             .lora = true, .checkpoint = true},
        // Ranks' parts begin and end within rows.
        Case{.name = "adafactor_untied_4", .folder = kUntied, .ranks = 4, .shards = 4,
             .optim = "adafactor", .compares_movement = true},
        Case{.name = "adafactor_hybrid_tied_zero2_2x2", .folder = kTied, .ranks = 4, .shards = 2,
             .shards_parameters = false, .optim = "adafactor", .compares_movement = true},
        Case{.name = "adafactor_mixtral_3", .folder = "mixtral_router_v5", .ranks = 3,
             .shards = 3, .optim = "adafactor"},
        Case{.name = "adafactor_lora_2", .folder = kUntied, .ranks = 2, .shards = 2, .lora = true,
             .optim = "adafactor"},
        Case{"dpo_2", kUntied, 2, 2, kDpo, RowKind::kPair},
        Case{"dpo_4", kTied, 4, 4, kDpo, RowKind::kPair},
        Case{"dpo_hybrid_2x2", kUntied, 4, 2, kDpo, RowKind::kPair},
        Case{"dpo_lora_checkpointed_4", kTied, 4, 4, kDpo, RowKind::kPair, true, true},
        Case{.name = "dpo_lora_head_2", .folder = kUntied, .ranks = 2, .shards = 2, .spec = kDpo,
             .kind = RowKind::kPair, .lora = true, .saves_head = true},
        Case{.name = "dpo_lora_head_checkpointed_hybrid_2x2", .folder = kUntied, .ranks = 4,
             .shards = 2, .spec = kDpo, .kind = RowKind::kPair, .lora = true, .checkpoint = true,
             .saves_head = true},
        Case{.name = "dpo_lora_head_zero2_2", .folder = kUntied, .ranks = 2, .shards = 2,
             .spec = kDpo, .kind = RowKind::kPair, .lora = true, .saves_head = true,
             .shards_parameters = false},
        Case{"dpo_synced_2", kUntied, 2, 2, kSyncedDpo, RowKind::kPair},
        Case{.name = "dpo_synced_hybrid_zero2_2x2", .folder = kTied, .ranks = 4, .shards = 2,
             .spec = kSyncedDpo, .kind = RowKind::kPair, .shards_parameters = false},
        Case{"orpo_2", kTied, 2, 2, kOrpo, RowKind::kPair},
        Case{"orpo_4", kUntied, 4, 4, kOrpo, RowKind::kPair},
        Case{"orpo_hybrid_2x2", kTied, 4, 2, kOrpo, RowKind::kPair},
        Case{"kto_2", kUntied, 2, 2, kKto, RowKind::kLabelled},
        Case{"kto_4", kUntied, 4, 4, kKto, RowKind::kLabelled},
        Case{"kto_hybrid_2x2", kTied, 4, 2, kKto, RowKind::kLabelled}),
    [](const testing::TestParamInfo<Case>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace liger::trainer
