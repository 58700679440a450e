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

void AddLogitMetrics(const at::Tensor& logit_sums_QP, const at::Tensor& counts_QP,
                     MetricSums& metrics) {
  const PairValues sums = PairValues::Of(logit_sums_QP), counts = PairValues::Of(counts_QP);
  metrics.Add("logits/chosen", sums.chosen.sum(), counts.chosen.sum());
  metrics.Add("logits/rejected", sums.rejected.sum(), counts.rejected.sum());
}

}  // namespace liger::trainer
