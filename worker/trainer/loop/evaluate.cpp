#include "worker/trainer/loop/evaluate.h"

#include <ATen/core/grad_mode.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "worker/trainer/models/evaluation_mode.h"

namespace liger::trainer {

std::map<std::string, double> Evaluate(CausalLM& model, Objective& objective,
                                       const std::vector<Batch>& batches, Strategy& strategy,
                                       const StopFlag& stop) {
  at::NoGradGuard no_grad;
  const EvaluationMode evaluation(model);
  const absl::Time start = absl::Now();
  MetricSums sums;
  for (const Batch& batch : batches) {
    stop.Check();
    const StepCounts counts = objective.Count(batch);
    if (counts.rows == 0) continue;
    sums.Add(objective.Forward(model, batch, {counts.loss_tokens, counts.rows}).metrics);
  }
  if (strategy.rank().world_size > 1) {
    at::Tensor packed = sums.Pack();
    strategy.SumAcrossRanks(packed);
    sums.Unpack(packed);
  }
  std::map<std::string, double> values;
  for (const auto& [name, mean] : sums.Means()) values["eval_" + name] = mean;
  values["eval_runtime"] = absl::ToDoubleSeconds(absl::Now() - start);
  return values;
}

}  // namespace liger::trainer
