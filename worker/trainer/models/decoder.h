#ifndef LIGER_WORKER_TRAINER_MODELS_DECODER_H_
#define LIGER_WORKER_TRAINER_MODELS_DECODER_H_

#include <functional>
#include <memory>
#include <vector>

#include "worker/trainer/models/attention.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/models/layers.h"
#include "worker/trainer/models/rotary.h"

namespace liger::trainer {

// What the families have in common: blocks of attention and feed-forward between
// an embedding and a head. A family's file puts them together.

// What all blocks of one forward pass share.
struct DecoderContext {
  SequenceLayout sequences;
  RopeTables rope;
  // fp32: how many tokens of the batch each computed one stands for; only where
  // the load-balancing loss is asked for.
  at::Tensor served_U;
};

class DecoderBlock : public torch::nn::Module {
 public:
  // [U, D] to [U, D]. `cache` is this layer's, or nullptr.
  virtual BlockOutput forward(const at::Tensor& in_UD, const DecoderContext& context,
                              KeyValueCache::Layer* cache) = 0;
};

// What modules are made with.
struct Build {
  const ModelConfig& config;
  const KernelChoice& kernels;
  const at::TensorOptions& options;
};

// A norm over `size` features, as the config says.
std::shared_ptr<RmsNorm> AddNorm(torch::nn::Module& parent, const std::string& name, int64_t size,
                                 const Build& build);

// Grouped-query attention with rotary positions.
class SelfAttention : public torch::nn::Module {
 public:
  struct Features {
    bool fused_qkv = false;  // one qkv_proj (Phi-3)
    bool qk_norm = false;    // q_norm and k_norm over each head (Qwen 3)
  };
  SelfAttention(const Build& build, int64_t layer, const Features& features);

  at::Tensor forward(const at::Tensor& hidden_UD, const DecoderContext& context,
                     KeyValueCache::Layer* cache);

 private:
  struct Heads {
    at::Tensor q_UNH, k_UKH, v_UKH;
  };
  Heads Project(const at::Tensor& hidden_UD);

  int64_t num_heads_, num_key_value_heads_, head_dim_;
  bool fused_rope_;
  AttentionOptions attention_;
  std::shared_ptr<Linear> q_proj_, k_proj_, v_proj_, qkv_proj_, o_proj_;
  std::shared_ptr<RmsNorm> q_norm_, k_norm_;
};

// activation(gate) * up of the config's activation, by the fused op or its twin.
at::Tensor GatedActivation(const at::Tensor& gate_UF, const at::Tensor& up_UF,
                           Activation activation, const KernelChoice& choice);

// Gated feed-forward layer.
class FeedForward : public torch::nn::Module {
 public:
  // `fused`: one gate_up_proj (Phi-3). `ends_block`: nothing reads its result but the residual sum
  // that the block returns.
  FeedForward(const Build& build, bool ends_block, bool fused = false);
  // [U, D] to [U, D].
  BlockOutput forward(const at::Tensor& hidden_UD, const DecoderContext& context);

 private:
  Activation activation_;
  KernelChoice kernels_;
  bool ends_block_;
  std::shared_ptr<Linear> gate_proj_, up_proj_, gate_up_proj_, down_proj_;
};

// x + attention(norm(x)), then x + mlp(norm(x)): all families but Gemma 2. Mlp
// is a module with FeedForward's forward.
template <typename Mlp>
class PreNormBlock : public DecoderBlock {
 public:
  PreNormBlock(const Build& build, int64_t layer, const SelfAttention::Features& features,
               std::shared_ptr<Mlp> mlp) {
    input_layernorm_ = AddNorm(*this, "input_layernorm", build.config.hidden_size, build);
    self_attn_ = AddModule<SelfAttention>(*this, "self_attn", build, layer, features);
    post_attention_layernorm_ =
        AddNorm(*this, "post_attention_layernorm", build.config.hidden_size, build);
    mlp_ = register_module("mlp", std::move(mlp));
  }

  BlockOutput forward(const at::Tensor& in_UD, const DecoderContext& context,
                      KeyValueCache::Layer* cache) override {
    const at::Tensor attended_UD =
        self_attn_->forward(input_layernorm_->forward(in_UD), context, cache);
    const auto [normed_UD, mid_UD] = post_attention_layernorm_->AddThenNorm(attended_UD, in_UD);
    const BlockOutput out = mlp_->forward(normed_UD, context);
    return {mid_UD + out.hidden_TD, out.routed_2E};
  }

 private:
  std::shared_ptr<RmsNorm> input_layernorm_, post_attention_layernorm_;
  std::shared_ptr<SelfAttention> self_attn_;
  std::shared_ptr<Mlp> mlp_;
};

// Makes the block of a layer.
using MakeBlock = std::function<std::shared_ptr<DecoderBlock>(const Build& build, int64_t layer)>;

std::shared_ptr<CausalLM> BuildDecoder(const ModelConfig& config, const KernelChoice& kernels,
                                       const at::TensorOptions& options, const MakeBlock& make);
// Of pre-norm blocks with a dense feed-forward layer.
std::shared_ptr<CausalLM> BuildPreNormDecoder(const ModelConfig& config,
                                              const KernelChoice& kernels,
                                              const at::TensorOptions& options,
                                              const SelfAttention::Features& features = {},
                                              bool fused_mlp = false);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_DECODER_H_
