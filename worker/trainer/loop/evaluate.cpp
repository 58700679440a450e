#include "worker/trainer/loop/evaluate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "worker/trainer/loop/rank_sums.h"
#include "worker/trainer/loop/stand_in.h"
#include "worker/trainer/models/evaluation_mode.h"

namespace liger::trainer {

namespace {

// Of all batches of all ranks, so that means over tokens are those of the whole set, however it is
// cut into batches.
StepContext ContextOf(const Objective& objective, const std::vector<Batch>& batches,
                      Strategy& strategy) {
  int64_t loss_tokens = 0, rows = 0, with_rows = 0;
  for (const Batch& batch : batches) {
    if (batch.num_rows == 0) continue;
    const StepCounts own = objective.Count(batch);
    loss_tokens += own.loss_tokens;
    rows += own.rows;
    ++with_rows;
  }
  const at::Tensor counts = at::tensor({loss_tokens, rows, with_rows}, at::kLong);
  SumCounts(strategy, counts, "the evaluation's counts");
  const auto* sums = counts.const_data_ptr<int64_t>();
  return {.loss_tokens = sums[0],
          .rows = sums[1],
          .micro_batches = sums[2],
          .sum_across_ranks = SumInForward(strategy)};
}

}  // namespace

std::map<std::string, double> Evaluate(CausalLM& model, Objective& objective,
                                       const std::vector<Batch>& batches, Strategy& strategy,
                                       const StopFlag& stop) {
  at::NoGradGuard no_grad;
  const EvaluationMode evaluation(model);
  const absl::Time start = absl::Now();
  MetricSums sums;
  const StepContext context = ContextOf(objective, batches, strategy);
  for (const Batch& batch : batches) {
    stop.Check();
    if (batch.num_rows == 0 && strategy.passes_together()) {
      ForwardStandIn(objective, model, context);
    } else if (batch.num_rows == 0) {
      objective.ForwardNothing(model, context);
    } else {
      sums.Add(objective.Forward(model, batch, context).metrics);
    }
  }
  SumMetrics(strategy, model.device(), sums);
  std::map<std::string, double> values;
  for (const auto& [name, mean] : sums.Means()) values["eval_" + name] = mean;
  // That of the slowest rank; all of them must see the same values, by which they may decide.
  const at::Tensor seconds = at::tensor({absl::ToDoubleSeconds(absl::Now() - start)}, at::kDouble);
  strategy.MaxAcrossRanks(seconds, "the evaluation's time");
  values["eval_runtime"] = seconds.item<double>();
  return values;
}

}  // namespace liger::trainer
