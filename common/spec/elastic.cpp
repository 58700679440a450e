#include "common/spec/elastic.h"

#include <algorithm>

namespace liger {
namespace {

int Count(const liger::v1::JobSpec& resolved) {
  return std::max(1, resolved.resources().count());
}

// Of one step, over all ranks. Ranks of a sequence group have theirs in common, whatever the number
// of groups.
int64_t MicroBatches(const liger::v1::JobSpec& resolved) {
  return int64_t{Count(resolved)} *
         std::max(1, resolved.training().gradient_accumulation_steps());
}

}  // namespace

std::vector<int> WorldSizes(const liger::v1::JobSpec& resolved, bool again) {
  std::vector<int> sizes = {Count(resolved)};
  if (!again || !resolved.parallel().elastic()) return sizes;
  const int shard_size = std::max(1, resolved.parallel().hybrid_shard_size());
  const int sequence_size = std::max(1, resolved.parallel().sequence_parallel_size());
  for (int size = sizes.front() - 1; size >= 1; --size) {
    if (MicroBatches(resolved) % size == 0 && size % shard_size == 0 && size % sequence_size == 0) {
      sizes.push_back(size);
    }
  }
  return sizes;
}

liger::v1::JobSpec OnDevices(liger::v1::JobSpec resolved, int count) {
  if (count == Count(resolved)) return resolved;
  resolved.mutable_training()->set_gradient_accumulation_steps(
      static_cast<int>(MicroBatches(resolved) / count));
  resolved.mutable_resources()->set_count(count);
  return resolved;
}

}  // namespace liger
