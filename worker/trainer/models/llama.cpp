#include "worker/trainer/models/llama.h"

#include "kernels/rope/rope.h"
#include "kernels/swiglu/swiglu.h"
#include "worker/trainer/models/attention.h"
#include "worker/trainer/models/layers.h"
#include "worker/trainer/models/rotary.h"

// Shape suffixes: see the legend in causal_lm.h.
namespace liger::trainer {
namespace {

// What all blocks of one forward pass share.
struct Context {
  SequenceLayout sequences;
  RopeTables rope;
};

class Attention : public torch::nn::Module {
 public:
  Attention(const ModelConfig& c, const KernelChoice& kernels, const at::TensorOptions& options)
      : head_dim_(c.head_dim), fused_rope_(kernels.rope) {
    const int64_t q_size = c.num_attention_heads * c.head_dim;
    const int64_t kv_size = c.num_key_value_heads * c.head_dim;
    const bool bias = c.attention_bias;
    q_proj_ = AddModule<Linear>(*this, "q_proj", c.hidden_size, q_size, bias, options);
    k_proj_ = AddModule<Linear>(*this, "k_proj", c.hidden_size, kv_size, bias, options);
    v_proj_ = AddModule<Linear>(*this, "v_proj", c.hidden_size, kv_size, bias, options);
    o_proj_ = AddModule<Linear>(*this, "o_proj", q_size, c.hidden_size, bias, options);
  }

  at::Tensor forward(const at::Tensor& hidden_UD, const Context& context,
                     KeyValueCache::Layer* cache) {
    const int64_t tokens = hidden_UD.size(0);
    at::Tensor q_UNH = q_proj_->forward(hidden_UD).view({tokens, -1, head_dim_});
    at::Tensor k_UKH = k_proj_->forward(hidden_UD).view({tokens, -1, head_dim_});
    const at::Tensor v_UKH = v_proj_->forward(hidden_UD).view({tokens, -1, head_dim_});
    const auto& [cos_UH, sin_UH] = context.rope;
    std::tie(q_UNH, k_UKH) = fused_rope_ ? kernels::Rope(q_UNH, k_UKH, cos_UH, sin_UH)
                                         : kernels::baseline::Rope(q_UNH, k_UKH, cos_UH, sin_UH);
    if (cache) cache->Append(k_UKH, v_UKH);
    const at::Tensor out_UNH = cache ? CachedAttention(q_UNH, cache->keys_CKH, cache->values_CKH)
                                     : CausalAttention(q_UNH, k_UKH, v_UKH, context.sequences);
    return o_proj_->forward(out_UNH.flatten(1));
  }

 private:
  int64_t head_dim_;
  bool fused_rope_;
  std::shared_ptr<Linear> q_proj_, k_proj_, v_proj_, o_proj_;
};

class FeedForward : public torch::nn::Module {
 public:
  FeedForward(const ModelConfig& c, const KernelChoice& kernels, const at::TensorOptions& options)
      : fused_swiglu_(kernels.swiglu) {
    const int64_t d = c.hidden_size, f = c.intermediate_size;
    gate_proj_ = AddModule<Linear>(*this, "gate_proj", d, f, c.mlp_bias, options);
    up_proj_ = AddModule<Linear>(*this, "up_proj", d, f, c.mlp_bias, options);
    down_proj_ = AddModule<Linear>(*this, "down_proj", f, d, c.mlp_bias, options);
  }

  at::Tensor forward(const at::Tensor& hidden_UD) {
    const at::Tensor gate_UF = gate_proj_->forward(hidden_UD);
    const at::Tensor up_UF = up_proj_->forward(hidden_UD);
    return down_proj_->forward(fused_swiglu_ ? kernels::Swiglu(gate_UF, up_UF)
                                             : kernels::baseline::Swiglu(gate_UF, up_UF));
  }

 private:
  bool fused_swiglu_;
  std::shared_ptr<Linear> gate_proj_, up_proj_, down_proj_;
};

class Block : public torch::nn::Module {
 public:
  Block(const ModelConfig& c, const KernelChoice& kernels, const at::TensorOptions& options) {
    const int64_t d = c.hidden_size;
    const double eps = c.rms_norm_eps;
    input_layernorm_ =
        AddModule<RmsNorm>(*this, "input_layernorm", d, eps, kernels.rms_norm, options);
    self_attn_ = AddModule<Attention>(*this, "self_attn", c, kernels, options);
    post_attention_layernorm_ =
        AddModule<RmsNorm>(*this, "post_attention_layernorm", d, eps, kernels.rms_norm, options);
    mlp_ = AddModule<FeedForward>(*this, "mlp", c, kernels, options);
  }

  at::Tensor forward(const at::Tensor& in_UD, const Context& context, KeyValueCache::Layer* cache) {
    const at::Tensor mid_UD =
        in_UD + self_attn_->forward(input_layernorm_->forward(in_UD), context, cache);
    return mid_UD + mlp_->forward(post_attention_layernorm_->forward(mid_UD));
  }

 private:
  std::shared_ptr<RmsNorm> input_layernorm_, post_attention_layernorm_;
  std::shared_ptr<Attention> self_attn_;
  std::shared_ptr<FeedForward> mlp_;
};

// The part that checkpoints name "model.": everything but the head.
class Backbone : public torch::nn::Module {
 public:
  Backbone(const ModelConfig& c, const KernelChoice& kernels, const at::TensorOptions& options) {
    embed_tokens = AddModule<Embedding>(*this, "embed_tokens", c.vocab_size, c.hidden_size,
                                        c.pad_token_id, options);
    torch::nn::ModuleList list;
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
      layers.push_back(std::make_shared<Block>(c, kernels, options));
      list->push_back(layers.back());
    }
    register_module("layers", list);
    norm =
        AddModule<RmsNorm>(*this, "norm", c.hidden_size, c.rms_norm_eps, kernels.rms_norm, options);
  }

  std::shared_ptr<Embedding> embed_tokens;
  std::vector<std::shared_ptr<Block>> layers;
  std::shared_ptr<RmsNorm> norm;
};

class LlamaForCausalLM : public CausalLM {
 public:
  LlamaForCausalLM(const ModelConfig& c, const KernelChoice& kernels,
                   const at::TensorOptions& options)
      : CausalLM(c, kernels), rope_frequencies_R_(RopeFrequencies(c)) {
    model_ = AddModule<Backbone>(*this, "model", c, kernels, options);
    if (c.tie_word_embeddings) return;
    lm_head_ = AddModule<Linear>(*this, "lm_head", c.hidden_size, c.vocab_size, false, options);
  }

  at::Tensor ComputedHidden(const ModelInput& input, KeyValueCache* cache) override {
    at::Tensor hidden_UD = model_->embed_tokens->forward(input.input_ids_U);
    rope_frequencies_R_ = rope_frequencies_R_.to(hidden_UD.device());
    auto context = std::make_shared<const Context>(
        input.sequences,
        MakeRopeTables(rope_frequencies_R_, input.positions_U, hidden_UD.scalar_type()));
    if (cache) cache->layers.resize(model_->layers.size());
    for (size_t i = 0; i < model_->layers.size(); ++i) {
      KeyValueCache::Layer* layer_cache = cache ? &cache->layers[i] : nullptr;
      const auto block = [layer = model_->layers[i], context,
                          layer_cache](const at::Tensor& in_UD) {
        return layer->forward(in_UD, *context, layer_cache);
      };
      hidden_UD = RunBlock(static_cast<int64_t>(i), block, hidden_UD);
    }
    return model_->norm->forward(hidden_UD);
  }

  at::Tensor HeadWeight() override { return lm_head_ ? lm_head_->weight : EmbeddingWeight(); }

  at::Tensor EmbeddingWeight() override { return model_->embed_tokens->weight; }

 private:
  at::Tensor rope_frequencies_R_;
  std::shared_ptr<Backbone> model_;
  std::shared_ptr<Linear> lm_head_;  // none when tied
};

}  // namespace

std::shared_ptr<CausalLM> BuildLlama(const ModelConfig& config, const KernelChoice& kernels,
                                     const at::TensorOptions& options) {
  return std::make_shared<LlamaForCausalLM>(config, kernels, options);
}

}  // namespace liger::trainer
