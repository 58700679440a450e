#ifndef LIGER_WORKER_TRAINER_PARALLEL_FSDP_BLOCK_HOOKS_H_
#define LIGER_WORKER_TRAINER_PARALLEL_FSDP_BLOCK_HOOKS_H_

#include <functional>

#include "worker/trainer/models/causal_lm.h"

namespace liger::trainer {

// Runs `block` with a call before its backward pass and one after it, as far as its input and
// output have gradients. `before` runs when the gradient of all that the block returned is there;
// `after` when that of its input is, and with it those of all its parameters: nodes of the graph
// run in the reverse order of their making where they can.
BlockOutput WithBackwardHooks(const BlockFn& block, const at::Tensor& hidden_TD,
                              std::function<void()> before, std::function<void()> after);

// Calls `done` with the leaf when its gradient of one backward pass is whole, and lets go of it
// afterwards.
void OnGradient(const at::Tensor& leaf, std::function<void(const at::Tensor& grad)> done);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_FSDP_BLOCK_HOOKS_H_
