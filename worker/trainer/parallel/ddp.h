#ifndef LIGER_WORKER_TRAINER_PARALLEL_DDP_H_
#define LIGER_WORKER_TRAINER_PARALLEL_DDP_H_

#include <memory>

#include "worker/trainer/parallel/gang.h"
#include "worker/trainer/parallel/gradient_reducer.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

// Distributed data parallel: every rank holds the whole model and its optimizer's states, computes
// its share of each global micro-batch, and the gradients are summed (GradientReducer). All ranks
// then make the same update, bit by bit, since sums are equal to the last bit on all of them.
// `sequence_size`: Strategy's.
std::unique_ptr<Strategy> MakeDdp(std::unique_ptr<Gang> gang,
                                  const GradientReducer::Options& options, int sequence_size = 1);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_DDP_H_
