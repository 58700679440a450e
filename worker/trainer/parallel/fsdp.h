#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_H_

#include <memory>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/parallel/gang.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

// Fully sharded data parallel: the ranks of a group (all, or hybrid_shard_size of them) share one
// copy of parameters, gradients and optimizer states. What shards a model is in fsdp/; this is the
// ranks' side of it. `reduce`: the dtype in which gradients are summed; `sequence_size`:
// Strategy's.
std::unique_ptr<Strategy> MakeFsdp(std::unique_ptr<Gang> gang,
                                   const liger::v1::ParallelSpec& parallel,
                                   at::ScalarType reduce, int sequence_size = 1);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_H_
