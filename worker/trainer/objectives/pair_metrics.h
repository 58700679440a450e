#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_PAIR_METRICS_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_PAIR_METRICS_H_

#include <ATen/core/Tensor.h>

#include "worker/trainer/objectives/metric_sums.h"

namespace liger::trainer {

// Of P pairs, all [P]; attached or not.
struct PairValues {
  at::Tensor chosen, rejected;

  // Of [2, P].
  static PairValues Of(const at::Tensor& x_QP) { return {x_QP.select(0, 0), x_QP.select(0, 1)}; }
};

// What every pairwise objective reports with TRL's names:
// rewards/{chosen,rejected,accuracies,margins} and logps/{chosen,rejected}. An
// accuracy is a strict >.
void AddPairMetrics(const PairValues& rewards, const PairValues& logps, MetricSums& metrics);

// logits/{chosen,rejected} from sums of mean logits over the answers of P pairs and their numbers
// of tokens, both [2, P].
void AddLogitMetrics(const at::Tensor& logit_sums_QP, const at::Tensor& counts_QP,
                     MetricSums& metrics);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_PAIR_METRICS_H_
