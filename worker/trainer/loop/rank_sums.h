#ifndef LIGER_WORKER_TRAINER_LOOP_RANK_SUMS_H_
#define LIGER_WORKER_TRAINER_LOOP_RANK_SUMS_H_

#include <functional>

#include "worker/trainer/objectives/metric_sums.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

// StepContext::sum_across_ranks: empty on one rank.
std::function<void(at::Tensor)> SumInForward(Strategy& strategy);

// Sums counts of rows and of their tokens over ranks, in place; those that the ranks of a sequence
// group have in common count once. int64, on the host.
void SumCounts(Strategy& strategy, const at::Tensor& counts, const char* what);

// Sums metrics over ranks in place. A rank that had no rows has none: `all_have` tells whether
// there is such a rank, and must be the same on all of them. `device`: where the others' are.
void SumMetrics(Strategy& strategy, bool all_have, at::Device device, MetricSums& metrics);
// Without knowing whether all ranks have some.
void SumMetrics(Strategy& strategy, at::Device device, MetricSums& metrics);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_RANK_SUMS_H_
