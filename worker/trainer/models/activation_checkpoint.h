#ifndef LIGER_WORKER_TRAINER_MODELS_ACTIVATION_CHECKPOINT_H_
#define LIGER_WORKER_TRAINER_MODELS_ACTIVATION_CHECKPOINT_H_

#include <cstdint>
#include <memory>

#include "worker/trainer/models/activation_store.h"
#include "worker/trainer/models/causal_lm.h"

namespace liger::trainer {

struct CheckpointPolicy {
  // Every n-th block, from the first; >= 1.
  int64_t every = 1;
  // Keep what the block's attention computes as well, kernels::KeptResults: queries, keys, values,
  // attention's output and that of the layer behind it, (2 N + 2 K) H + D numbers a token and block
  // (N query and K key heads of H), less those of layers with adapters.
  bool keep_attention = false;
  // Keep all of that in the host's memory.
  bool offload = false;
};

// Runs `block` keeping only its input and the random state; the backward pass
// runs it again with gradients and back-propagates through that (Chen et al.
// 2016, arXiv:1604.06174). Gradients of the parameters inside accumulate into
// their .grad during that nested backward pass, so torch::autograd::grad on
// parameters does not see them; backward() does. The input's gradient is
// returned as usual. An input that needs no gradient (frozen embeddings, LoRA)
// is fine. What the block computes only to return it is left out the second time
// (gradient_replay.h). Without grad mode it is a plain call. `store`, or null: where what is
// kept is meanwhile. What is kept besides the input is given up in the backward pass: a second one
// (retain_graph) throws.
BlockOutput CheckpointedCall(const BlockFn& block, const at::Tensor& hidden_TD,
                             bool keep_attention = false,
                             const std::shared_ptr<ActivationStore>& store = nullptr);

void ApplyActivationCheckpointing(CausalLM& model, const CheckpointPolicy& policy = {});

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_ACTIVATION_CHECKPOINT_H_
