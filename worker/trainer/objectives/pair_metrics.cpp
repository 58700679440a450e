#include "worker/trainer/objectives/pair_metrics.h"

#include <ATen/ATen.h>

namespace liger::trainer {

void AddPairMetrics(const PairValues& rewards, const PairValues& logps, MetricSums& metrics) {
  const double pairs = static_cast<double>(rewards.chosen.size(0));
  const auto add_mean = [&](const char* name, const at::Tensor& values_P) {
    metrics.Add(name, values_P.detach().sum(), pairs);
  };
  add_mean("rewards/chosen", rewards.chosen);
  add_mean("rewards/rejected", rewards.rejected);
  add_mean("rewards/accuracies", rewards.chosen.gt(rewards.rejected));
  add_mean("rewards/margins", rewards.chosen - rewards.rejected);
  add_mean("logps/chosen", logps.chosen);
  add_mean("logps/rejected", logps.rejected);
}

void AddLogitMetrics(const at::Tensor& logit_sums_S, const at::Tensor& counts_S,
                     MetricSums& metrics) {
  const int64_t pairs = counts_S.size(0) / 2;
  metrics.Add("logits/chosen", logit_sums_S.slice(0, 0, pairs).sum(),
              counts_S.slice(0, 0, pairs).sum());
  metrics.Add("logits/rejected", logit_sums_S.slice(0, pairs).sum(),
              counts_S.slice(0, pairs).sum());
}

}  // namespace liger::trainer
