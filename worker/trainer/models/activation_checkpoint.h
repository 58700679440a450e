#ifndef LIGER_WORKER_TRAINER_MODELS_ACTIVATION_CHECKPOINT_H_
#define LIGER_WORKER_TRAINER_MODELS_ACTIVATION_CHECKPOINT_H_

#include "worker/trainer/models/causal_lm.h"

namespace liger::trainer {

// Runs `block` keeping only its input and the random state; the backward pass
// runs it again with gradients and back-propagates through that (Chen et al.
// 2016, arXiv:1604.06174). Gradients of the parameters inside accumulate into
// their .grad during that nested backward pass, so torch::autograd::grad on
// parameters does not see them; backward() does. The input's gradient is
// returned as usual. An input that needs no gradient (frozen embeddings, LoRA)
// is fine. What the block computes only to return it is left out the second time
// (gradient_replay.h). Without grad mode it is a plain call.
BlockOutput CheckpointedCall(const BlockFn& block, const at::Tensor& hidden_TD);

// Checkpoints every n-th block of `model`, from the first; `every` >= 1.
void ApplyActivationCheckpointing(CausalLM& model, int64_t every = 1);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_ACTIVATION_CHECKPOINT_H_
