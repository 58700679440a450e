#include "common/checkpoints.h"

#include <algorithm>
#include <charconv>

namespace liger {
namespace {

constexpr std::string_view kPrefix = "checkpoint-";

}  // namespace

std::string CheckpointName(int64_t step) { return std::string(kPrefix) + std::to_string(step); }

std::optional<int64_t> CheckpointStep(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t step = 0;
  const auto result = std::from_chars(name.data(), name.data() + name.size(), step);
  const bool whole = result.ec == std::errc() && result.ptr == name.data() + name.size();
  return whole && step >= 0 ? std::optional(step) : std::nullopt;
}

std::vector<int64_t> CheckpointsToRemove(std::vector<CheckpointMark> checkpoints, int64_t limit) {
  if (limit <= 0) return {};
  std::sort(checkpoints.begin(), checkpoints.end(),
            [](const CheckpointMark& a, const CheckpointMark& b) { return a.step > b.step; });
  std::vector<int64_t> remove;
  bool has_best = false;
  for (size_t i = 0; i < checkpoints.size(); ++i) {
    const bool newest_best = checkpoints[i].best && !has_best;
    has_best = has_best || checkpoints[i].best;
    if (static_cast<int64_t>(i) >= limit && !newest_best) remove.push_back(checkpoints[i].step);
  }
  return remove;
}

}  // namespace liger
