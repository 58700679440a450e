#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/fsdp/cases.h"
#include "worker/trainer/parallel/fsdp/shard_home.h"

namespace liger::trainer {
namespace {

using namespace testing_fsdp;

// Shards on the host: the same numbers to the last bit, by other ways.
class OffloadTest : public testing::TestWithParam<Case> {};

TEST_P(OffloadTest, IsTheSameToTheLastBit) {
  Case c = GetParam();
  const Outcome expected = RunSharded(c);
  c.on_host = true;
  const Outcome actual = RunSharded(c);
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_EQ(actual.norm, expected.norm);
  ASSERT_EQ(actual.parameters.size(), expected.parameters.size());
  for (const auto& [name, parameter] : expected.parameters) {
    EXPECT_TRUE(at::equal(actual.parameters.at(name), parameter)) << name;
    EXPECT_TRUE(at::equal(actual.gradient.at(name), expected.gradient.at(name))) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Strategies, OffloadTest,
    testing::Values(
        Case{"untied_4", kUntied, 4, 4},
        Case{.name = "hybrid_tied_checkpointed_2x2", .folder = kTied, .ranks = 4, .shards = 2,
             .checkpoint = true},
        Case{.name = "zero2_bf16_sums_2", .folder = kTied, .ranks = 2, .shards = 2,
             .shards_parameters = false, .reduce = at::kBFloat16},
        Case{.name = "lora_2", .folder = kUntied, .ranks = 2, .shards = 2, .lora = true},
        Case{.name = "adafactor_2", .folder = kUntied, .ranks = 2, .shards = 2,
             .optim = "adafactor"},
        Case{"dpo_synced_2", kUntied, 2, 2, kSyncedDpo, RowKind::kPair}),
    [](const testing::TestParamInfo<Case>& info) { return std::string(info.param.name); });

// It takes them: on the host a shard and its gradient are other memory than what passes read, whose
// addresses a device's shard of fp32 sums in fp32 would share.
TEST(ShardHomeTest, OnTheHostNothingIsShared) {
  const ShardHome device(at::kCPU, false), host(at::kCPU, true);
  const at::Tensor shard = at::arange(4, at::kFloat);
  EXPECT_TRUE(device.OnDevice(shard).is_same(shard));
  EXPECT_FALSE(host.OnDevice(shard).is_alias_of(shard));
  for (const ShardHome& home : {device, host}) {
    at::Tensor sum = home.Zeros(4, at::kBFloat16);
    home.Store(sum, shard);
    home.Add(sum, at::full({4}, 1e-4f));  // lost in bf16's rounding but beside 0
    const at::Tensor expected = at::tensor({1e-4f, 1.f, 2.f, 3.f}).to(at::kBFloat16);
    EXPECT_TRUE(at::equal(sum, expected));
    at::Tensor fetched = at::empty({4}, at::kFloat);
    home.Fetch(fetched, sum);
    EXPECT_TRUE(at::equal(fetched, expected.to(at::kFloat)));
    home.HostWaits();
  }
}

}  // namespace
}  // namespace liger::trainer
