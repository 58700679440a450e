// Predicted memory beside what docs/benchmarks.md has measured, within 5 %.
#include "worker/trainer/loop/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <string>

#include "common/model_shapes/model_shapes.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/shape_folder.h"
#include "worker/trainer/loop/strategy_choice.h"
#include "worker/trainer/models/registry.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::shared_ptr<CausalLM> Shape(const char* name) {
  const ShapeFolder folder(*FindModelShape(name), std::nullopt, testing::TempDir());
  return BuildModel(ModelConfig::FromFolder(folder.path()), {}, at::kMeta);
}

liger::v1::JobSpec Spec(int64_t rows, int64_t length, bool checkpointing, bool fsdp = false) {
  liger::v1::JobSpec spec;
  spec.mutable_sft();
  spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CUDA);
  auto* training = spec.mutable_training();
  training->set_precision(liger::v1::PRECISION_BF16_STOCHASTIC);
  training->set_per_device_train_batch_size(static_cast<int32_t>(rows));
  training->set_max_length(static_cast<int32_t>(length));
  training->set_gradient_checkpointing(checkpointing);
  if (fsdp) spec.mutable_parallel()->set_strategy(liger::v1::PARALLEL_STRATEGY_FSDP);
  return spec;
}

MemoryPlan Plan(const CausalLM& model, const liger::v1::JobSpec& spec, int ranks = 1) {
  return PlanMemory(model, spec, ResolvePrecision(spec.training(), /*on_gpu=*/true), ranks);
}

// docs/benchmarks.md, bf16 with stochastic rounding, rows as long as they may be. Bytes are what
// torch's allocator had handed out at most.
struct Measured {
  const char* name;
  const char* model;
  int64_t rows, length;
  bool checkpointing;
  int ranks;  // 1: one device, else FSDP
  double gb;
  const char* method = "sft";
};

constexpr Measured kMeasured[] = {
    // "Steps of random-init models on one GPU": H100, 2f9547c.
    {"1b", "llama3.2-1b", 8, 2048, false, 1, 25.3},
    {"1b checkpointed", "llama3.2-1b", 8, 2048, true, 1, 12.3},
    // There: H200, 153b579.
    {"8b checkpointed", "llama3-8b", 4, 4096, true, 1, 66.44},
    // There: H200, 72b8c0a.
    {"8b", "llama3-8b", 2, 4096, false, 1, 80.6},
    // There: llama3-8b on an H100 and, DPO, an H200, 72b8c0a; sequences of pairs.
    {"8b of 8x1024", "llama3-8b", 8, 1024, true, 1, 64.3},
    {"8b ORPO", "llama3-8b", 4, 1024, true, 1, 64.3, "orpo"},
    {"8b DPO", "llama3-8b", 4, 1024, true, 1, 80.4, "dpo"},
    // There: preference steps on an H100, 2f9547c.
    {"1b DPO", "llama3.2-1b", 8, 1024, true, 1, 14.8, "dpo"},
    // "Two GPUs": two H100, 58393db.
    {"1b FSDP", "llama3.2-1b", 8, 2048, false, 2, 20.91 * 1.073741824},
    {"8b FSDP checkpointed", "llama3-8b", 4, 4096, true, 2, 34.86 * 1.073741824},
};

TEST(MemoryPlanTest, SgdHasStatesWithMomentumAlone) {
  const auto model = Shape("llama3.2-1b");
  auto spec = Spec(1, 128, true);
  const int64_t adamw = Plan(*model, spec).resting;
  spec.mutable_training()->set_optim("sgd");
  const int64_t none = Plan(*model, spec).resting;
  spec.mutable_training()->set_sgd_momentum(0.9);
  const int64_t momentum = Plan(*model, spec).resting;
  EXPECT_GT(none, 0);
  EXPECT_EQ(momentum, 2 * none);  // bf16 parameters and bf16 momenta
  EXPECT_EQ(adamw, 3 * none);
}

// It is on the host once there are states.
TEST(MemoryPlanTest, APrecomputedReferenceIsNotThereBesideTheStates) {
  const auto model = Shape("llama3.2-1b");
  auto spec = Spec(1, 128, true);
  const int64_t sft = Plan(*model, spec).resting;
  spec.mutable_dpo();
  const int64_t live = Plan(*model, spec).resting;
  spec.mutable_dpo()->set_precompute_ref_log_probs(true);
  EXPECT_EQ(Plan(*model, spec).resting, sft);
  EXPECT_EQ(3 * live, 4 * sft);
  spec.mutable_training()->set_optim("sgd");  // smaller than the reference is
  EXPECT_EQ(3 * Plan(*model, spec).resting, 2 * sft);
}

TEST(MemoryPlanTest, PeaksAreThoseMeasured) {
  for (const Measured& m : kMeasured) {
    auto spec = Spec(m.rows, m.length, m.checkpointing, m.ranks > 1);
    if (m.method == std::string("orpo")) spec.mutable_orpo();
    if (m.method == std::string("dpo")) spec.mutable_dpo();
    const MemoryPlan plan = Plan(*Shape(m.model), spec, m.ranks);
    ASSERT_TRUE(plan.peak.has_value()) << m.name;
    const double gb = static_cast<double>(*plan.peak) / 1e9;
    EXPECT_NEAR(gb, m.gb, 0.05 * m.gb) << m.name;

    std::cout << m.name << ": predicted " << gb << " GB, measured " << m.gb << " GB, "
              << 100 * (gb / m.gb - 1) << " %\n";
  }
}

// Of what other blocks keep nothing is claimed.
TEST(MemoryPlanTest, NoPeakWhereActivationsAreNotKnown) {
  const auto model = Shape("llama3.2-1b");
  auto spec = Spec(8, 2048, false);
  spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CPU);
  EXPECT_FALSE(Plan(*model, spec).peak.has_value());
  liger::v1::KernelSpec baseline;
  baseline.set_mode(liger::v1::KERNEL_MODE_BASELINE);
  const ShapeFolder folder(*FindModelShape("llama3.2-1b"), std::nullopt, testing::TempDir());
  const auto plain = BuildModel(ModelConfig::FromFolder(folder.path()), baseline, at::kMeta);
  EXPECT_FALSE(Plan(*plain, Spec(8, 2048, false)).peak.has_value());
}

// On the host: shards, gradients and states; on the device what is gathered and on its way.
TEST(MemoryPlanTest, OffloadMovesShardsGradientsAndStates) {
  const auto model = Shape("llama3-8b");
  auto spec = Spec(4, 4096, true, /*fsdp=*/true);
  const MemoryPlan on_device = Plan(*model, spec, 2);
  spec.mutable_parallel()->set_cpu_offload(true);
  const MemoryPlan on_host = Plan(*model, spec, 2);
  int64_t numel = 0;
  for (const auto& parameter : model->parameters()) numel += parameter.numel();
  EXPECT_EQ(on_device.host, 0);
  EXPECT_EQ(on_host.gradients, 0);
  // Of bf16 and two ranks: a byte an element of shards, one of gradients, two of states.
  EXPECT_EQ(on_device.resting - on_host.resting, 3 * numel);
  EXPECT_EQ(on_device.gradients, numel);
  EXPECT_GE(on_host.host, 4 * numel);
  EXPECT_LE(on_host.host, 6 * numel) << "pinned memory comes in powers of two";
  EXPECT_LT(*on_host.peak, *on_device.peak - 3 * numel);
}

// docs/benchmarks.md, "What checkpointing keeps": H200, 7b6d529. Of a token and block the input,
// queries, keys, values, attention's output and that of the layer behind it, a float32 a head.
TEST(MemoryPlanTest, WhatIsKeptOfAttentionIsOnTheDeviceOrTheHost) {
  const auto peaks = [](const char* name, int64_t rows, int64_t length) {
    const auto model = Shape(name);
    auto spec = Spec(rows, length, /*checkpointing=*/true);
    spec.mutable_training()->set_gradient_checkpointing_keep_attention(true);
    const double kept = static_cast<double>(*Plan(*model, spec).peak) / 1e9;
    spec.mutable_training()->set_activation_offloading(true);
    return std::pair(kept, static_cast<double>(*Plan(*model, spec).peak) / 1e9);
  };
  const auto [kept_1b, offloaded_1b] = peaks("llama3.2-1b", 8, 2048);
  EXPECT_NEAR(kept_1b, 15.05, 0.05 * 15.05);
  EXPECT_NEAR(offloaded_1b, 12.50, 0.05 * 12.50);
  const auto [kept_8b, offloaded_8b] = peaks("llama3-8b", 4, 4096);
  EXPECT_NEAR(kept_8b, 71.71, 0.05 * 71.71);
  EXPECT_NEAR(offloaded_8b, 66.61, 0.05 * 66.61);

  const auto model = Shape("llama3-8b");
  constexpr int64_t kTokens = 4 * 4096, kLayers = 32, kInput = 4096 * 2 * kTokens;
  constexpr int64_t kAttention = ((3 * 4096 + 2 * 1024) * 2 + 32 * 4) * kTokens;
  auto spec = Spec(4, 4096, /*checkpointing=*/true);
  spec.mutable_training()->set_gradient_checkpointing_keep_attention(true);
  const MemoryPlan kept = Plan(*model, spec);
  EXPECT_EQ(kept.host_activations, 0);
  spec.mutable_training()->set_activation_offloading(true);
  const MemoryPlan offloaded = Plan(*model, spec);
  EXPECT_EQ(offloaded.host_activations, kLayers * (kInput + kAttention)) << "are powers of two";
  EXPECT_EQ(offloaded.host, 0);

  const RankMemory small = {.device = {}, .host = int64_t{16} << 30};
  const auto warning = HostWarning(offloaded, spec, small);
  ASSERT_TRUE(warning.has_value());
  EXPECT_THAT(warning->message(), AllOf(HasSubstr("19.39 GB"), HasSubstr("17.18 GB are free")));
  EXPECT_FALSE(HostWarning(kept, spec, small).has_value());
  EXPECT_FALSE(HostWarning(offloaded, spec, {.device = {}, .host = int64_t{32} << 30}).has_value());
}

// A rank of a group has a part of the tokens, and attention's output once more.
TEST(MemoryPlanTest, ASequenceGroupDividesActivations) {
  const auto model = Shape("llama3-8b");
  const auto peak = [&](int64_t length, int places, bool checkpointing) {
    auto spec = Spec(1, length, checkpointing, /*fsdp=*/true);
    spec.mutable_parallel()->set_sequence_parallel_size(places);
    return *Plan(*model, spec, 4).peak;
  };
  constexpr int64_t kTokens = 32768, kLayers = 32, kHeads = 32, kKeyHeads = 8, kHead = 128;
  constexpr int64_t kOutput = kTokens * kHeads * kHead * 2;
  EXPECT_EQ(peak(4 * kTokens, 4, false) - peak(kTokens, 1, false), kLayers * kOutput);
  EXPECT_EQ(peak(4 * kTokens, 4, true) - peak(kTokens, 1, true), kOutput);
  // Sixteen places share out each key and value head twice.
  EXPECT_EQ(peak(16 * kTokens, 16, true) - peak(kTokens, 1, true),
            kOutput + 2 * kTokens * kKeyHeads * kHead * 2);
}

TEST(MemoryPlanTest, WhatCannotFitSaysWhatIsNeededThereAndToChange) {
  const auto model = Shape("llama3-8b");
  const auto refusal = [](const MemoryPlan& plan, const liger::v1::JobSpec& spec,
                          const RankMemory& there) -> std::string {
    try {
      RequireFits(plan, spec, there);
      return "";
    } catch (const TrainerError& error) {
      return error.failure().field() + ": " + error.what() + "; " + error.failure().action();
    }
  };
  auto spec = Spec(1, 128, true);
  const RankMemory h100 = {.device = int64_t{79} << 30, .host = int64_t{100} << 30};
  spec.mutable_training()->set_precision(liger::v1::PRECISION_BF16_MIXED);
  EXPECT_THAT(refusal(Plan(*model, spec), spec, h100),
              AllOf(HasSubstr("parallel.strategy"), HasSubstr("84.83 GB"),
                    HasSubstr("FSDP over several devices (resources.count), "
                                                        "use training.precision BF16_STOCHASTIC")));
  spec.mutable_parallel()->set_strategy(liger::v1::PARALLEL_STRATEGY_FSDP);
  EXPECT_EQ(refusal(Plan(*model, spec, 2), spec, h100), "");
  const RankMemory l4 = {.device = int64_t{22} << 30, .host = int64_t{100} << 30,
                         .ranks_on_host = 2};
  EXPECT_THAT(refusal(Plan(*model, spec, 2), spec, l4), HasSubstr("set parallel.cpu_offload"));
  spec.mutable_parallel()->set_cpu_offload(true);
  EXPECT_THAT(refusal(Plan(*model, spec, 2), spec, l4),
              AllOf(HasSubstr("parallel.cpu_offload: "), HasSubstr("2 ranks of this host")));
  EXPECT_EQ(refusal(Plan(*model, spec, 2), spec, {.device = l4.device}), "");
}

// Shorter rows may fit all the same, so that it is no refusal.
TEST(MemoryPlanTest, APeakThatIsMoreThanTheDeviceIsAWarning) {
  const auto model = Shape("llama3.2-1b");
  auto spec = Spec(8, 2048, /*checkpointing=*/false);
  const MemoryPlan plan = Plan(*model, spec);
  EXPECT_FALSE(PeakWarning(plan, spec, {.device = int64_t{79} << 30}));
  EXPECT_FALSE(PeakWarning(plan, spec, {}));
  EXPECT_FALSE(PeakWarning({.peak = std::nullopt}, spec, {.device = 1}));
  const auto warning = PeakWarning(plan, spec, {.device = int64_t{22} << 30});
  ASSERT_TRUE(warning);
  EXPECT_EQ(warning->field(), "training.per_device_train_batch_size");
  EXPECT_THAT(warning->message(),
              AllOf(HasSubstr("8 rows of 2048 tokens"), HasSubstr("25.28 GB of a device that has "
                                                                  "23.62 GB"),
                    HasSubstr("set training.gradient_checkpointing")));
}

}  // namespace
}  // namespace liger::trainer
