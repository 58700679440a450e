#include "worker/trainer/parallel/fsdp/unit_gatherer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace liger::trainer {
namespace {

class Done : public c10d::Work {
 public:
  bool wait(std::chrono::milliseconds) override { return true; }
};

// One rank that has memory of its own to gather into, as NCCL's group has.
class GroupWithMemory : public c10d::Backend {
 public:
  GroupWithMemory() : Backend(/*rank=*/0, /*size=*/1) {}

  const std::string getBackendName() const override { return "with memory"; }
  bool supportsTensorAlloc(c10::DeviceIndex) override { return true; }
  at::Tensor allocateTensor(long size, at::TensorOptions options) override {
    sizes.push_back(size);
    most = std::max(most, ++alive);
    auto memory = std::make_shared<std::vector<char>>(size);
    return at::from_blob(
        memory->data(), {size}, [this, memory](void*) { --alive; }, options);
  }
  c10::intrusive_ptr<c10d::Work> _allgather_base(at::Tensor& out, at::Tensor& in,
                                                 const c10d::AllgatherOptions&) override {
    out.copy_(in.clone());
    return c10::make_intrusive<Done>();
  }

  std::vector<int64_t> sizes;  // of what was asked for
  int alive = 0, most = 0;
};

std::unique_ptr<ShardUnit> Unit(int64_t numel, bool is_block = true) {
  auto unit = std::make_unique<ShardUnit>();
  unit->is_block = is_block;
  unit->parts.push_back(std::make_unique<FlatParameter>(
      std::vector<FlatParameter::Leaf>{{"weight", at::full({numel}, 3.0)}}, at::kFloat, at::kFloat,
      /*rank=*/0, /*ranks=*/1, ShardHome(at::kCPU, /*on_host=*/false)));
  unit->parts[0]->CopyValues(0);
  return unit;
}

void UseAndRelease(UnitGatherer& gatherer, ShardUnit& unit) {
  gatherer.Use(unit);
  const at::Tensor whole = unit.parts[0]->whole();
  EXPECT_EQ(whole.sum().item<double>(), 3.0 * whole.numel());
  gatherer.Release(unit);
}

TEST(UnitGathererTest, GathersBlocksIntoTheGroupsMemory) {
  const auto group = c10::make_intrusive<GroupWithMemory>();
  std::vector<std::unique_ptr<ShardUnit>> blocks;
  for (int i = 0; i < 5; ++i) blocks.push_back(Unit(1024));
  const auto head = Unit(4096, /*is_block=*/false);
  {
    UnitGatherer gatherer(group, at::kCPU, /*buffers=*/2);
    for (int pass = 0; pass < 3; ++pass) {
      for (const auto& block : blocks) UseAndRelease(gatherer, *block);
      UseAndRelease(gatherer, *head);  // which comes and goes
    }
    EXPECT_EQ(group->sizes, std::vector<int64_t>(2, 4096));
  }
  EXPECT_EQ(group->alive, 0);
}

TEST(UnitGathererTest, LetsGoOfWhatIsTooSmallBeforeItAsksForMore) {
  const auto group = c10::make_intrusive<GroupWithMemory>();
  const auto small = Unit(1024), large = Unit(2048);
  UnitGatherer gatherer(group, at::kCPU, /*buffers=*/1);
  UseAndRelease(gatherer, *small);
  UseAndRelease(gatherer, *large);
  EXPECT_EQ(group->sizes, (std::vector<int64_t>{4096, 8192}));
  EXPECT_EQ(group->most, 1);
}

}  // namespace
}  // namespace liger::trainer
