// Sequence parallelism on ranks that are threads: ranks that have a part of the tokens of their
// rows each make of a step what one device makes of it. Rows are concatenated, so that borders of
// rows lie within a rank's part, and parts end within rows; the tokens are seldom a multiple of
// the ranks.
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/models/golden.h"
#include "tests/unit/parallel/step_of_ranks.h"
#include "worker/trainer/models/activation_checkpoint.h"
#include "worker/trainer/models/attention.h"
#include "worker/trainer/models/registry.h"
#include "worker/trainer/models/weights.h"
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

// Of this thread, while it lives: bytes of tensors in host memory.
class CountedBytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
    live_ += bytes;
    most_ = std::max(most_, live_);
  }
  bool memoryProfilingEnabled() const override { return true; }

  int64_t live() const { return live_; }
  // Since the last call.
  int64_t TakeMost() { return std::exchange(most_, live_); }

 private:
  int64_t live_ = 0, most_ = 0;
};

// Tokens are many, so that what is there for each head or sequence is little.
constexpr int64_t kTokens = 512, kHead = 32;  // of a rank

// Of a place of a group, in heads a token of its own, at most in attention's forward pass beside
// queries, keys and values, and what stays for the backward pass; docs/parallelism.md, Memory.
TEST(GroupAttentionTest, HoldsWhatIsExchangedAndAttentionsOutputs) {
  struct Heads {
    int64_t query, key;
    int ranks;
    int64_t key_of_group;
  };
  for (const Heads& h :
       {Heads{8, 8, 2, 8}, {8, 2, 2, 2}, {8, 2, 4, 4}, {12, 3, 2, 6}, {8, 8, 4, 8}}) {
    RunGang(h.ranks, [&](std::unique_ptr<Gang> gang) {
      const auto sequences = SequenceLayout::FromCuSeqlens(
          at::tensor({int64_t{0}, kTokens * h.ranks}, at::kInt), at::kCPU,
          MakeSequenceGroup(*gang, h.ranks));
      std::vector<at::Tensor> inputs;
      for (const int64_t heads : {h.query, h.key, h.key}) {
        inputs.push_back(at::randn({kTokens, heads, kHead}).requires_grad_());
      }
      // What a thread of the process group frees is not counted: the least of some passes.
      int64_t most = std::numeric_limits<int64_t>::max(), left = most;
      for (int pass = 0; pass < 8; ++pass) {
        const auto bytes = std::make_shared<CountedBytes>();
        const c10::DebugInfoGuard counts(c10::DebugInfoKind::PROFILER_STATE, bytes);
        const at::Tensor out = CausalAttention(inputs[0], inputs[1], inputs[2], sequences, {});
        most = std::min(most, bytes->TakeMost());
        left = std::min(left, bytes->live());
      }
      const auto heads_of = [](int64_t b) { return double(b) / (4 * kTokens * kHead); };
      const int64_t exchanged = h.query + 2 * h.key_of_group;
      const bool repeats = h.key_of_group > h.key;
      const int64_t forward = std::max(2 * exchanged + (repeats ? 2 * h.key_of_group : 0),
                                       exchanged + 3 * h.query + (repeats ? h.key_of_group : 0));
      EXPECT_NEAR(heads_of(most), forward, 0.03 * forward) << h.query << h.key;
      EXPECT_NEAR(heads_of(left), exchanged + 2 * h.query, 0.01 * forward);
    });
  }
}

// Bytes at most in a forward and backward pass of two layers over kTokens of a rank.
int64_t MostBytes(const ModelConfig& config, std::shared_ptr<const SequenceGroup> group,
                  bool checkpointing) {
  const auto model = BuildModel(config, {});
  InitializeWeights(*model, 1);
  model->train();
  if (checkpointing) ApplyActivationCheckpointing(*model);
  for (auto& parameter : model->parameters()) parameter.mutable_grad() = at::zeros_like(parameter);
  ModelInput input;
  // Short ones, since attention on a CPU takes memory for each one's scores.
  input.sequences = SequenceLayout::FromCuSeqlens(
      at::arange(0, kTokens * (group ? group->size() : 1) + 1, 32, at::kInt), at::kCPU, group);
  input.input_ids_U = at::randint(config.vocab_size, {kTokens}, at::kLong);
  input.positions_U = at::arange(kTokens) + input.sequences.own_begin();
  input.num_positions = input.sequences.num_tokens();
  model->Hidden(input).sum().backward();  // ways to compute are tried out once
  const auto bytes = std::make_shared<CountedBytes>();
  const c10::DebugInfoGuard counts(c10::DebugInfoKind::PROFILER_STATE, bytes);
  model->Hidden(input).sum().backward();
  return bytes->TakeMost();
}

// What is exchanged is gone when a block takes most, in the backward pass of its feed-forward part: a
// group adds to the peak attention's output once more, and key and value heads that it repeats, as
// memory_plan.cpp has it. Shapes are as Llama 3's.
TEST(GroupAttentionTest, WhatIsExchangedIsNotInThePeak) {
  ModelConfig config = ModelConfig::FromFolder(golden::Folder("tiny/gqa_tied_v5"));
  ASSERT_EQ(config.num_attention_heads * config.head_dim, config.hidden_size);
  config.intermediate_size = 7 * config.hidden_size / 2;
  for (const int ranks : {2, 4}) {
    const int64_t repeated = std::max<int64_t>(0, ranks - config.num_key_value_heads);
    const int64_t kept = (config.num_attention_heads + 2 * repeated) * config.head_dim;
    for (const bool checkpointing : {false, true}) {
      const int64_t layers = checkpointing ? 1 : config.num_hidden_layers;
      const int64_t alone = MostBytes(config, nullptr, checkpointing);
      RunGang(ranks, [&](std::unique_ptr<Gang> gang) {
        const int64_t of_group =
            MostBytes(config, MakeSequenceGroup(*gang, ranks), checkpointing);
        EXPECT_EQ(of_group - alone, layers * kept * kTokens * 4) << ranks << checkpointing;
      });
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
