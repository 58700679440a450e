#include "worker/trainer/parallel/fsdp/flat_layout.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

namespace liger::trainer {
namespace {

int64_t Aligned(int64_t numel) {
  return (numel + FlatLayout::kAlign - 1) / FlatLayout::kAlign * FlatLayout::kAlign;
}

}  // namespace

FlatLayout::FlatLayout(std::vector<Item> items, int64_t ranks)
    : items_(std::move(items)), ranks_(ranks) {
  int64_t end = 0;
  for (Item& item : items_) {
    item.numel = std::accumulate(item.shape.begin(), item.shape.end(), int64_t{1},
                                 std::multiplies<int64_t>());
    item.offset = end;
    end += Aligned(item.numel);
  }
  shard_ = Aligned((end + ranks - 1) / ranks);
}

FlatLayout::Slice FlatLayout::SliceOf(size_t item, int64_t rank) const {
  const Item& whole = items_[item];
  const int64_t first = rank * shard_;
  const int64_t begin = std::max(whole.offset, first);
  const int64_t end = std::min(whole.offset + whole.numel, first + shard_);
  if (begin >= end) return {item, 0, 0, 0};
  return {item, begin - whole.offset, end - begin, begin - first};
}

std::vector<FlatLayout::Slice> FlatLayout::SlicesOf(int64_t rank) const {
  std::vector<Slice> slices;
  for (size_t item = 0; item < items_.size(); ++item) {
    const Slice slice = SliceOf(item, rank);
    if (slice.count > 0) slices.push_back(slice);
  }
  return slices;
}

}  // namespace liger::trainer
