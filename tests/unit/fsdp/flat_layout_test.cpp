#include "worker/trainer/parallel/fsdp/flat_layout.h"

#include <gtest/gtest.h>

namespace liger::trainer {
namespace {

// Every element of every parameter is on exactly one rank, at the place that the flat tensor's
// order says.
TEST(FlatLayoutTest, RanksHaveEveryElementOnce) {
  for (const int64_t ranks : {1, 2, 3, 4, 7, 64}) {
    const FlatLayout layout({{"a", {3, 5}}, {"b", {1000}}, {"c", {70, 90}}, {"d", {1}}}, ranks);
    EXPECT_EQ(layout.numel(), layout.shard_numel() * ranks);
    EXPECT_EQ(layout.shard_numel() % FlatLayout::kAlign, 0);
    std::vector<int64_t> next(layout.items().size());
    for (int64_t rank = 0; rank < ranks; ++rank) {
      for (const FlatLayout::Slice& slice : layout.SlicesOf(rank)) {
        EXPECT_EQ(slice.begin, next[slice.item]) << "ranks " << ranks;
        EXPECT_EQ(slice.begin % FlatLayout::kAlign, 0);
        EXPECT_EQ(rank * layout.shard_numel() + slice.at,
                  layout.items()[slice.item].offset + slice.begin);
        EXPECT_LE(slice.at + slice.count, layout.shard_numel());
        next[slice.item] += slice.count;
      }
    }
    for (size_t item = 0; item < next.size(); ++item) {
      EXPECT_EQ(next[item], layout.items()[item].numel) << layout.items()[item].name;
      EXPECT_EQ(layout.items()[item].offset % FlatLayout::kAlign, 0);
    }
  }
}

TEST(FlatLayoutTest, ARankMayHaveNothing) {
  const FlatLayout layout({{"norm", {32}}}, 4);
  EXPECT_EQ(layout.SlicesOf(0).size(), 1u);
  EXPECT_TRUE(layout.SlicesOf(1).empty());
  EXPECT_EQ(layout.SliceOf(0, 3).count, 0);
}

}  // namespace
}  // namespace liger::trainer
