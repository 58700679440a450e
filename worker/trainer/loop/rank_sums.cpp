#include "worker/trainer/loop/rank_sums.h"

#include <ATen/ATen.h>

#include <set>
#include <string>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace liger::trainer {

std::function<void(at::Tensor)> SumInForward(Strategy& strategy) {
  if (strategy.alone()) return nullptr;
  return [&strategy](at::Tensor values) {
    strategy.SumAcrossRanks(std::move(values), "a sum of the forward pass");
  };
}

void SumCounts(Strategy& strategy, const at::Tensor& counts, const char* what) {
  strategy.SumAcrossRanks(counts, what);
  counts.floor_divide_(strategy.sequence_size());
}

void SumMetrics(Strategy& strategy, bool all_have, at::Device device, MetricSums& metrics) {
  if (strategy.alone()) return;
  if (!all_have) {
    std::string own;
    for (const auto& [name, value] : metrics.Values()) own += name + "\n";
    const at::Tensor nothing = at::zeros({}, at::TensorOptions(device).dtype(at::kDouble));
    for (const std::string& names : strategy.Gather(own, "the metrics' names")) {
      for (const absl::string_view name : absl::StrSplit(names, '\n', absl::SkipEmpty())) {
        metrics.Add(std::string(name), nothing, 0.0);
      }
    }
  }
  const at::Tensor packed_M2 = metrics.Pack();
  strategy.SumAcrossRanks(packed_M2, "the metrics");
  metrics.Unpack(packed_M2);
}

void SumMetrics(Strategy& strategy, at::Device device, MetricSums& metrics) {
  if (strategy.alone()) return;
  const at::Tensor with = at::tensor({metrics.empty() ? 0 : 1}, at::kLong);
  strategy.SumAcrossRanks(with, "the ranks that have metrics");
  const bool all_have = with.item<int64_t>() == strategy.rank().world_size;
  SumMetrics(strategy, all_have, device, metrics);
}

}  // namespace liger::trainer
