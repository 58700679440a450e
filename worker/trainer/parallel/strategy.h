#ifndef LIGER_WORKER_TRAINER_PARALLEL_STRATEGY_H_
#define LIGER_WORKER_TRAINER_PARALLEL_STRATEGY_H_

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "worker/trainer/parallel/rank.h"

namespace liger::trainer {

// What a training step needs of the other ranks. The loop calls these at the
// same places whatever the strategy, so that a new one changes no loop code:
//
//   counts of the step's targets   SumAcrossRanks, before the first forward
//   gradients                      ReduceGradients, after the last backward
//                                  (DDP will overlap it with the backward)
//   squared norm of what this      SumAcrossRanks; only a sharding strategy
//   rank holds of the gradient     (norm_is_partial) needs it
//   the step's metrics             SumAcrossRanks of MetricSums::Pack
class Strategy {
 public:
  virtual ~Strategy() = default;

  virtual const RankInfo& rank() const = 0;
  // Element-wise sum over ranks, in place.
  virtual void SumAcrossRanks(at::Tensor values) = 0;
  // Sums gradients over ranks in place; objectives scale by the global count,
  // so that nothing is averaged. Undefined entries are skipped.
  virtual void ReduceGradients(const std::vector<at::Tensor>& grads) = 0;
  // True when each rank holds only a shard of every gradient.
  virtual bool norm_is_partial() const = 0;
  // Returns when every rank has arrived.
  virtual void Barrier() = 0;
};

// The strategy for this gang: single. Throws TrainerError (CONFIG) when the
// world is larger than one rank, which is not available yet.
std::unique_ptr<Strategy> MakeStrategy(const RankInfo& rank);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_STRATEGY_H_
