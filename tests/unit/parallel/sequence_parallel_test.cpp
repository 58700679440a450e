// Sequence parallelism on ranks that are threads: ranks that have a part of the tokens of their
// rows each make of a step what one device makes of it. Rows are concatenated, so that borders of
// rows lie within a rank's part, and parts end within rows; the tokens are seldom a multiple of the
// ranks.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/parallel/step_of_ranks.h"
#include "worker/trainer/models/attention.h"
#include "worker/trainer/parallel/sequence_ranks.h"

namespace liger::trainer {
namespace {

struct Ranks {
  int world_size, sequence_size;
};

class SequenceParallelTest : public testing::TestWithParam<std::tuple<StepCase, Ranks>> {};

TEST_P(SequenceParallelTest, IsOneDevice) {
  const auto& [c, ranks] = GetParam();
  ExpectOneDevice(c, ranks.world_size, ranks.sequence_size);
}

constexpr char kSft[] = R"({"sft": {}})";
constexpr RowKind kPair = RowKind::kPair, kLabelled = RowKind::kLabelled;

// Of four query heads gqa has two key and value heads, mqa one: four ranks have more.
const StepCase kCases[] = {
    {.name = "sft", .spec = kSft},
    {.name = "accumulated", .spec = kSft, .micro_batches = 3},
    {.name = "untied_checkpointed",
     .spec = kSft,
     .model = "tiny/mha_untied_hub",
     .checkpointing = true,
     .micro_batches = 2},
    {.name = "one_kv_head", .spec = kSft, .model = "tiny/mqa_head_dim_bias_v5"},
    {.name = "window", .spec = kSft, .model = "tiny/mistral_window_v5"},
    {.name = "softcap", .spec = kSft, .model = "tiny/gemma2_v5"},
    {.name = "fused_qkv", .spec = kSft, .model = "tiny/phi3_partial_window_v5"},
    {.name = "qk_norm", .spec = kSft, .model = "tiny/qwen3_v5", .checkpointing = true},
    {.name = "masked", .spec = kSft, .rows_per_batch = 1, .masked = true},
    {.name = "smoothed",
     .spec = R"({"sft": {"labelSmoothingFactor": 0.1, "zLossWeight": 0.01}})",
     .micro_batches = 2},
    {.name = "packed", .spec = kSft, .micro_batches = 2, .sequences_per_pack = 3},
    {.name = "packed_window",
     .spec = kSft,
     .model = "tiny/mistral_window_v5",
     .rows_per_batch = 1,
     .sequences_per_pack = 4},
    // Fewer tokens than four ranks; a rank has padding alone.
    {.name = "short_rows", .spec = kSft, .rows_per_batch = 1, .rows = 2, .last_tokens = 3},
    // Two groups: one of them has no row. Parts are without a target.
    {.name = "one_row", .spec = kSft, .rows_per_batch = 1, .rows = 1},
    {.name = "one_row_untied",
     .spec = kSft,
     .model = "tiny/mha_untied_hub",
     .rows_per_batch = 1,
     .rows = 1},
    {.name = "baseline", .spec = kSft, .micro_batches = 2, .kernels = "BASELINE"},
    {.name = "lora_checkpointed",
     .spec = kSft,
     .lora = true,
     .checkpointing = true,
     .micro_batches = 2},
    {.name = "mixtral",
     .spec = kSft,
     .model = "tiny/mixtral_router_v5",
     .checkpointing = true,
     .micro_batches = 2,
     .rows_per_batch = 1,
     .rows = 8,
     .as_micro_batches = true},
    {.name = "dpo", .spec = R"({"dpo": {}})", .kind = kPair, .micro_batches = 2},
    {.name = "dpo_one_row",
     .spec = R"({"dpo": {}})",
     .kind = kPair,
     .rows_per_batch = 1,
     .rows = 1},
    {.name = "dpo_weighted",
     .spec = R"({"dpo": {"useWeighting": true, "ldAlpha": 0.5}})",
     .kind = kPair},
    {.name = "dpo_baseline", .spec = R"({"dpo": {}})", .kind = kPair, .kernels = "BASELINE"},
    {.name = "dpo_lora", .spec = R"({"dpo": {}})", .kind = kPair, .lora = true},
    {.name = "orpo", .spec = R"({"orpo": {"beta": 0.2}})", .kind = kPair, .micro_batches = 2},
    {.name = "cpo", .spec = R"({"cpo": {}})", .kind = kPair, .model = "tiny/mha_untied_hub"},
    {.name = "kto", .spec = R"({"kto": {}})", .kind = kLabelled, .micro_batches = 2},
    {.name = "fsdp", .spec = kSft, .fsdp = true},
    {.name = "fsdp_untied_checkpointed",
     .spec = kSft,
     .model = "tiny/mha_untied_hub",
     .checkpointing = true,
     .micro_batches = 2,
     .fsdp = true},
    {.name = "fsdp_lora", .spec = kSft, .lora = true, .micro_batches = 2, .fsdp = true},
    {.name = "fsdp_one_row", .spec = kSft, .rows_per_batch = 1, .rows = 1, .fsdp = true},
    {.name = "fsdp_masked", .spec = kSft, .rows_per_batch = 1, .masked = true, .fsdp = true},
    {.name = "fsdp_of_two", .spec = kSft, .micro_batches = 3, .fsdp = true, .hybrid_shard_size = 2},
    {.name = "fsdp_mixtral",
     .spec = kSft,
     .model = "tiny/mixtral_router_v5",
     .checkpointing = true,
     .rows_per_batch = 1,
     .rows = 8,
     .as_micro_batches = true,
     .fsdp = true},
    {.name = "fsdp_short_rows",
     .spec = kSft,
     .model = "tiny/mha_untied_hub",
     .rows_per_batch = 1,
     .rows = 1,
     .last_tokens = 3,
     .fsdp = true},
    {.name = "fsdp_orpo_untied_one_row",
     .spec = R"({"orpo": {}})",
     .kind = kPair,
     .model = "tiny/mha_untied_hub",
     .rows_per_batch = 1,
     .rows = 1,
     .fsdp = true},
    {.name = "fsdp_dpo", .spec = R"({"dpo": {}})", .kind = kPair, .fsdp = true},
    {.name = "fsdp_kto",
     .spec = R"({"kto": {}})",
     .kind = kLabelled,
     .micro_batches = 2,
     .fsdp = true},
};

std::string CaseName(const testing::TestParamInfo<std::tuple<StepCase, Ranks>>& info) {
  const auto& [c, ranks] = info.param;
  return std::string(c.name) + "_" + std::to_string(ranks.world_size / ranks.sequence_size) + "x" +
         std::to_string(ranks.sequence_size);
}

INSTANTIATE_TEST_SUITE_P(Cases, SequenceParallelTest,
                         testing::Combine(testing::ValuesIn(kCases),
                                          testing::Values(Ranks{2, 2}, Ranks{4, 4}, Ranks{4, 2})),
                         CaseName);

// What a rank has of three sequences and of their padding.
struct Attended {
  at::Tensor out_UNH, query_grad_UNH, key_grad_UKH, value_grad_UKH;
};

Attended Attend(const std::vector<at::Tensor>& query_key_value, const at::Tensor& weight_TNH,
                const std::shared_ptr<const SequenceGroup>& group) {
  const at::Tensor cu_seqlens = at::tensor({0, 5, 6, 17}, at::kInt);
  const auto sequences = SequenceLayout::FromCuSeqlens(cu_seqlens, at::kCPU, group);
  const auto own = [&](const at::Tensor& x_TNH) {
    return at::constant_pad_nd(x_TNH, {0, 0, 0, 0, 0, sequences.padding})
        .narrow(0, sequences.own_begin(), sequences.num_computed());
  };
  std::vector<at::Tensor> inputs;
  for (const at::Tensor& x : query_key_value) inputs.push_back(own(x).clone().requires_grad_());
  const at::Tensor out = CausalAttention(inputs[0], inputs[1], inputs[2], sequences,
                                         {.scale = 0.5, .window = 4});
  (out * own(weight_TNH)).sum().backward();
  return {out.detach(), inputs[0].grad(), inputs[1].grad(), inputs[2].grad()};
}

// Key heads that the ranks divide, that divide the ranks, and neither.
TEST(GroupAttentionTest, IsThatOfOneDeviceForEveryNumberOfHeads) {
  struct Heads {
    int64_t query, key;
    int ranks;
  };
  for (const auto& [query, key, ranks] :
       {Heads{4, 4, 2}, {12, 4, 4}, {12, 3, 4}, {12, 6, 4}, {12, 1, 4}, {6, 2, 3}}) {
    const at::TensorOptions exact = at::kDouble;
    const std::vector<at::Tensor> inputs = {at::randn({17, query, 8}, exact),
                                            at::randn({17, key, 8}, exact),
                                            at::randn({17, key, 8}, exact)};
    const at::Tensor weight = at::randn({17, query, 8}, exact);
    const Attended one = Attend(inputs, weight, nullptr);
    std::vector<Attended> parts(ranks);
    RunGang(ranks, [&, ranks = ranks](std::unique_ptr<Gang> gang) {
      parts[gang->rank().rank] = Attend(inputs, weight, MakeSequenceGroup(*gang, ranks));
    });
    for (const auto part : {&Attended::out_UNH, &Attended::query_grad_UNH, &Attended::key_grad_UKH,
                            &Attended::value_grad_UKH}) {
      std::vector<at::Tensor> whole;
      for (const Attended& rank : parts) whole.push_back(rank.*part);
      EXPECT_LT((at::cat(whole).narrow(0, 0, 17) - one.*part).abs().max().item<double>(), 1e-12)
          << query << " and " << key << " heads on " << ranks;
    }
  }
}

TEST(GroupAttentionTest, HeadsThatAGroupCannotShareAreNamed) {
  const at::Tensor query = at::randn({17, 4, 8}), key = at::randn({17, 2, 8});
  try {
    RunGang(3, [&](std::unique_ptr<Gang> gang) {
      Attend({query, key, key}, query, MakeSequenceGroup(*gang, 3));
    });
    FAIL() << "it has shared them";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find("a group of 3 cannot share 4 query heads"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace liger::trainer
