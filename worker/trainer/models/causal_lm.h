#ifndef LIGER_WORKER_TRAINER_MODELS_CAUSAL_LM_H_
#define LIGER_WORKER_TRAINER_MODELS_CAUSAL_LM_H_

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker/trainer/models/kernel_choice.h"
#include "worker/trainer/models/model_config.h"
#include "worker/trainer/models/shared_prefixes.h"
#include "worker/trainer/sequence_group.h"

namespace liger::trainer {

// Legend of shape suffixes, here and in objectives/:
//   T  tokens of the batch, all sequences one after the other (no padding)
//   U  those of them that are computed here: all, unless prefixes are shared, or the tokens are
//      divided among a SequenceGroup
//   S  sequences;  S1 = S + 1 offsets
//   D  hidden size;  F  feed-forward size;  V  vocabulary
//   N  query heads;  K  key/value heads;  H  head dimension;  R = H / 2
//   C  tokens in a key/value cache, this call's included
//   P  pairs;  O, I  output and input features of a weight;  E  experts

// How T concatenated tokens divide into sequences.
struct SequenceLayout {
  std::vector<int64_t> offsets_S1;  // on the host
  at::Tensor cu_seqlens_S1;         // the same, int32 on the compute device
  int64_t max_seqlen = 0;
  std::shared_ptr<const SharedPrefixes> shared;  // or none
  // Or none: all tokens are computed here. Excludes `shared`.
  std::shared_ptr<const SequenceGroup> group;
  // So that T can be divided among `group`, as many tokens come after those of the batch, in one
  // more sequence that num_sequences() leaves out.
  int64_t padding = 0;

  // From offsets on any device; they start at 0 and rise.
  static SequenceLayout FromCuSeqlens(const at::Tensor& cu_seqlens_S1, at::Device device,
                                      std::shared_ptr<const SequenceGroup> group = nullptr);
  int64_t num_sequences() const {
    return static_cast<int64_t>(offsets_S1.size()) - 1 - (padding > 0 ? 1 : 0);
  }
  int64_t num_tokens() const { return offsets_S1.back(); }
  // Of a value a token of the batch, on whichever device, those of the tokens of this place of the
  // group, `fill` for the padding. Without a group: x_T.
  at::Tensor Own(const at::Tensor& x_T, double fill) const;
  // Where they begin in T.
  int64_t own_begin() const { return group ? num_tokens() / group->size() * group->place() : 0; }
  int64_t num_computed() const {
    if (group) return num_tokens() / group->size();
    return shared ? shared->num_computed() : num_tokens();
  }

 private:
  void DivideAmong(std::shared_ptr<const SequenceGroup> among);
};

struct ModelInput {
  at::Tensor input_ids_U;  // int64
  at::Tensor positions_U;  // int64, from 0 in each sequence
  int64_t num_positions;   // 1 + the largest of them
  SequenceLayout sequences;
  // Added to the embeddings as they leave the table, [U, D]; undefined: nothing.
  at::Tensor embedding_noise_UD;
};

// Keys and values of one sequence, for decoding a token at a time. Only
// without gradients.
struct KeyValueCache {
  struct Layer {
    at::Tensor keys_CKH, values_CKH;
    void Append(const at::Tensor& keys_TKH, const at::Tensor& values_TKH);
  };
  std::vector<Layer> layers;  // grows to the model's number of layers
};

// What a block makes of hidden_TD. Implicit from the hidden states alone.
struct BlockOutput {
  BlockOutput(at::Tensor hidden_TD) : hidden_TD(std::move(hidden_TD)) {}  // NOLINT
  BlockOutput(at::Tensor hidden_TD, at::Tensor routed_2E)
      : hidden_TD(std::move(hidden_TD)), routed_2E(std::move(routed_2E)) {}

  at::Tensor hidden_TD;
  // Mixture of experts, where the load-balancing loss is asked for: tokens
  // assigned to each expert, and the sum over tokens of the router's
  // probabilities, which is attached. fp32.
  at::Tensor routed_2E;
};

// One block of the model.
using BlockFn = std::function<BlockOutput(const at::Tensor& hidden_TD)>;
// Runs a block; what is applied to a model from outside (activation
// checkpointing, later the gathering of sharded parameters) is one of these.
// `block` owns what it needs and may be kept and called again in the backward
// pass.
using BlockRunner =
    std::function<BlockOutput(int64_t layer, const BlockFn& block, const at::Tensor& hidden_TD)>;

// A causal language model on one device. It computes in its parameters' dtype
// and knows nothing of parallelism, checkpointing or master weights (optim/
// keeps those). named_parameters() gives Hugging Face's names; a tied head has
// no parameter of its own.
class CausalLM : public torch::nn::Module {
 public:
  CausalLM(ModelConfig config, KernelChoice kernels);

  // Hidden states after the final norm, of every token: [T, D]; [U, D] with a group. With `cache`,
  // the input is the continuation of the one cached sequence and is added to it.
  // With `aux_loss` and config().router_aux_loss_coef, that becomes the
  // load-balancing loss of all layers' routers over all tokens (Fedus et al. 2021,
  // arXiv:2101.03961, eq. 4 to 6, times the experts a token goes to), a scalar,
  // without the coefficient; else it is left undefined. With a group, what this place adds to it.
  at::Tensor Hidden(const ModelInput& input, KeyValueCache* cache = nullptr,
                    at::Tensor* aux_loss = nullptr);

  // The output projection [V, D], a parameter: logits are hidden_TD @ head_VD^T,
  // (then capped by config().final_logit_softcapping), and the caller decides
  // whether they ever exist.
  virtual at::Tensor HeadWeight() = 0;

  // The input embedding [V, D]; the same parameter when the head is tied.
  virtual at::Tensor EmbeddingWeight() = 0;

  // [T, V], with the config's final softcap.
  at::Tensor Logits(const at::Tensor& hidden_TD);

  const ModelConfig& config() const { return config_; }
  const KernelChoice& kernels() const { return kernels_; }
  at::Device device() const;

  // Applied from outside. The default runs a block directly.
  void set_block_runner(BlockRunner runner) { block_runner_ = std::move(runner); }
  const BlockRunner& block_runner() const { return block_runner_; }
  // Among whom ToModelInput divides the tokens of a batch; null, the default: nobody.
  void set_sequence_group(std::shared_ptr<const SequenceGroup> group) {
    sequence_group_ = std::move(group);
  }
  const std::shared_ptr<const SequenceGroup>& sequence_group() const { return sequence_group_; }
  // Runs before each pass, before anything reads a parameter. The default does nothing.
  void set_before_forward(std::function<void()> call) { before_forward_ = std::move(call); }

 protected:
  // Hidden, of the computed tokens: [U, D].
  virtual at::Tensor ComputedHidden(const ModelInput& input, KeyValueCache* cache,
                                    at::Tensor* aux_loss) = 0;

  BlockOutput RunBlock(int64_t layer, const BlockFn& block, const at::Tensor& hidden_TD) const;

 private:
  ModelConfig config_;
  KernelChoice kernels_;
  BlockRunner block_runner_;
  std::shared_ptr<const SequenceGroup> sequence_group_;
  std::function<void()> before_forward_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_CAUSAL_LM_H_
