#include "worker/trainer/models/decoder.h"

#include <torch/nn/modules/container/modulelist.h>

#include "kernels/gated_linear/gated_linear.h"
#include "kernels/geglu/geglu.h"
#include "kernels/kept_results.h"
#include "kernels/rope/rope.h"
#include "kernels/swiglu/swiglu.h"
#include "worker/trainer/models/gradient_replay.h"

// Shape suffixes: see the legend in causal_lm.h.
namespace liger::trainer {
namespace {

// The part that checkpoints name "model.": everything but the head.
class Backbone : public torch::nn::Module {
 public:
  Backbone(const Build& build, const MakeBlock& make_block) {
    const ModelConfig& c = build.config;
    embed_tokens = AddModule<Embedding>(*this, "embed_tokens", c.vocab_size, c.hidden_size,
                                        c.pad_token_id, build.options);
    torch::nn::ModuleList list;
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
      layers.push_back(make_block(build, i));
      list->push_back(layers.back());
    }
    register_module("layers", list);
    norm = AddNorm(*this, "norm", c.hidden_size, build);
  }

  std::shared_ptr<Embedding> embed_tokens;
  std::vector<std::shared_ptr<DecoderBlock>> layers;
  std::shared_ptr<RmsNorm> norm;
};

// 1 for each computed token, and 1 more for each that it is repeated for; 0 for padding.
at::Tensor Served(const SequenceLayout& sequences, at::Device device) {
  const auto options = at::TensorOptions(device).dtype(at::kFloat);
  if (!sequences.shared) {
    return sequences.Own(at::ones({sequences.num_tokens() - sequences.padding}, options), 0);
  }
  return at::zeros({sequences.num_computed()}, options)
      .index_add(0, sequences.shared->computed_T, at::ones({sequences.num_tokens()}, options));
}

// Of assigned tokens and probabilities summed over all layers: E times the dot
// product of both as shares of the tokens of all layers. The product is linear in the
// probabilities, so that of a group each place has those of its tokens.
at::Tensor LoadBalancingLoss(const at::Tensor& routed_2E, const SequenceLayout& sequences,
                             size_t layers) {
  const double rows =
      double(sequences.num_tokens() - sequences.padding) * static_cast<double>(layers);
  const at::Tensor shares_2E = routed_2E / rows;
  at::Tensor assigned_E = shares_2E[0].detach();
  if (sequences.group) sequences.group->Sum(assigned_E = assigned_E.clone());
  return (assigned_E * shares_2E[1]).sum() * shares_2E.size(1);
}

class Decoder : public CausalLM {
 public:
  Decoder(const ModelConfig& c, const KernelChoice& kernels, const at::TensorOptions& options,
          const MakeBlock& make_block)
      : CausalLM(c, kernels), rotary_(c.rope) {
    model_ = AddModule<Backbone>(*this, "model", Build{c, kernels, options}, make_block);
    if (c.tie_word_embeddings) return;
    lm_head_ = AddModule<Linear>(*this, "lm_head", c.hidden_size, c.vocab_size, false,
                                 kernels.linear, options);
  }

  at::Tensor ComputedHidden(const ModelInput& input, KeyValueCache* cache,
                            at::Tensor* aux_loss) override {
    at::Tensor hidden_UD = model_->embed_tokens->forward(input.input_ids_U);
    if (input.embedding_noise_UD.defined()) hidden_UD = hidden_UD + input.embedding_noise_UD;
    if (const double scale = config().embedding_scale; scale != 1) {
      // Rounded to the dtype first, as transformers does.
      hidden_UD = hidden_UD * at::scalar_tensor(scale, hidden_UD.options());
    }
    auto context = std::make_shared<const DecoderContext>(
        input.sequences,
        rotary_.Tables(input.positions_U, input.num_positions, hidden_UD.scalar_type()),
        aux_loss ? Served(input.sequences, hidden_UD.device()) : at::Tensor());
    at::Tensor routed_2E;
    if (cache) cache->layers.resize(model_->layers.size());
    for (size_t i = 0; i < model_->layers.size(); ++i) {
      KeyValueCache::Layer* layer_cache = cache ? &cache->layers[i] : nullptr;
      const auto block = [layer = model_->layers[i], context,
                          layer_cache](const at::Tensor& in_UD) {
        return layer->forward(in_UD, *context, layer_cache);
      };
      const BlockOutput out = RunBlock(static_cast<int64_t>(i), block, hidden_UD);
      hidden_UD = out.hidden_TD;
      if (out.routed_2E.defined()) {
        routed_2E = routed_2E.defined() ? routed_2E + out.routed_2E : out.routed_2E;
      }
    }
    if (aux_loss && routed_2E.defined()) {
      *aux_loss = LoadBalancingLoss(routed_2E, input.sequences, model_->layers.size());
    }
    return model_->norm->forward(hidden_UD);
  }

  at::Tensor HeadWeight() override { return lm_head_ ? lm_head_->weight : EmbeddingWeight(); }

  at::Tensor EmbeddingWeight() override { return model_->embed_tokens->weight; }

 private:
  RotaryEmbedding rotary_;
  std::shared_ptr<Backbone> model_;
  std::shared_ptr<Linear> lm_head_;  // none when tied
};

}  // namespace

std::shared_ptr<RmsNorm> AddNorm(torch::nn::Module& parent, const std::string& name, int64_t size,
                                 const Build& build) {
  const ModelConfig& c = build.config;
  return AddModule<RmsNorm>(parent, name, size, c.rms_norm_eps, c.unit_offset_norms,
                            build.kernels.rms_norm, build.options);
}

SelfAttention::SelfAttention(const Build& build, int64_t layer, const Features& features)
    : num_heads_(build.config.num_attention_heads),
      num_key_value_heads_(build.config.num_key_value_heads),
      head_dim_(build.config.head_dim),
      fused_rope_(build.kernels.rope) {
  const ModelConfig& c = build.config;
  attention_ = {.scale = c.attention_scale,
                .window = c.sliding_windows.at(layer),
                .softcap = c.attn_logit_softcapping};
  const int64_t q_size = num_heads_ * head_dim_, kv_size = num_key_value_heads_ * head_dim_;
  const auto add = [&](const char* name, int64_t in, int64_t out, bool bias) {
    return AddModule<Linear>(*this, name, in, out, bias, build.kernels.linear, build.options);
  };
  if (features.fused_qkv) {
    qkv_proj_ = add("qkv_proj", c.hidden_size, q_size + 2 * kv_size, c.qkv_bias);
  } else {
    q_proj_ = add("q_proj", c.hidden_size, q_size, c.qkv_bias);
    k_proj_ = add("k_proj", c.hidden_size, kv_size, c.qkv_bias);
    v_proj_ = add("v_proj", c.hidden_size, kv_size, c.qkv_bias);
  }
  o_proj_ = add("o_proj", q_size, c.hidden_size, c.out_bias);
  if (features.qk_norm) {
    q_norm_ = AddNorm(*this, "q_norm", head_dim_, build);
    k_norm_ = AddNorm(*this, "k_norm", head_dim_, build);
  }
}

SelfAttention::Heads SelfAttention::Project(const at::Tensor& hidden_UD) {
  const auto heads = [&](const at::Tensor& x) { return x.unflatten(1, {-1, head_dim_}); };
  if (!qkv_proj_) {
    return {heads(q_proj_->forward(hidden_UD)), heads(k_proj_->forward(hidden_UD)),
            heads(v_proj_->forward(hidden_UD))};
  }
  const auto parts = heads(qkv_proj_->forward(hidden_UD))
                         .split({num_heads_, num_key_value_heads_, num_key_value_heads_}, 1);
  return {parts[0], parts[1], parts[2]};
}

at::Tensor SelfAttention::forward(const at::Tensor& hidden_UD, const DecoderContext& context,
                                  KeyValueCache::Layer* cache) {
  // By the byte they cost more to compute than anything else in a block.
  const kernels::KeptResults::Region kept_here(true);
  auto [q_UNH, k_UKH, v_UKH] = Project(hidden_UD);
  if (q_norm_) {
    q_UNH = q_norm_->forward(q_UNH);
    k_UKH = k_norm_->forward(k_UKH);
  }
  const auto& [cos_UH, sin_UH] = context.rope;
  std::tie(q_UNH, k_UKH) = fused_rope_ ? kernels::Rope(q_UNH, k_UKH, cos_UH, sin_UH)
                                       : kernels::baseline::Rope(q_UNH, k_UKH, cos_UH, sin_UH);
  if (cache) cache->Append(k_UKH, v_UKH);
  const at::Tensor out_UNH =
      cache ? CachedAttention(q_UNH, cache->keys_CKH, cache->values_CKH, attention_)
            : CausalAttention(q_UNH, k_UKH, v_UKH, context.sequences, attention_);
  return o_proj_->forward(out_UNH.flatten(1));
}

at::Tensor GatedActivation(const at::Tensor& gate_UF, const at::Tensor& up_UF,
                           Activation activation, const KernelChoice& choice) {
  if (activation == Activation::kSilu) {
    return choice.swiglu ? kernels::Swiglu(gate_UF, up_UF)
                         : kernels::baseline::Swiglu(gate_UF, up_UF);
  }
  const auto approximate = activation == Activation::kGeluTanh ? kernels::GeluApproximate::kTanh
                                                               : kernels::GeluApproximate::kNone;
  return choice.geglu ? kernels::Geglu(gate_UF, up_UF, approximate)
                      : kernels::baseline::Geglu(gate_UF, up_UF, approximate);
}

FeedForward::FeedForward(const Build& build, bool ends_block, bool fused)
    : activation_(build.config.activation), kernels_(build.kernels), ends_block_(ends_block) {
  const int64_t d = build.config.hidden_size, f = build.config.intermediate_size;
  const auto add = [&](const char* name, int64_t in, int64_t out) {
    return AddModule<Linear>(*this, name, in, out, build.config.mlp_bias, build.kernels.linear,
                             build.options);
  };
  if (fused) {
    gate_up_proj_ = add("gate_up_proj", d, 2 * f);
  } else {
    gate_proj_ = add("gate_proj", d, f);
    up_proj_ = add("up_proj", d, f);
  }
  down_proj_ = add("down_proj", f, d);
}

BlockOutput FeedForward::forward(const at::Tensor& hidden_UD, const DecoderContext&) {
  at::Tensor gate_UF, up_UF;
  if (gate_up_proj_) {
    const auto parts = gate_up_proj_->forward(hidden_UD).chunk(2, 1);
    gate_UF = parts[0], up_UF = parts[1];
  } else {
    gate_UF = gate_proj_->forward(hidden_UD), up_UF = up_proj_->forward(hidden_UD);
  }
  const bool fuses_gate = activation_ == Activation::kSilu ? kernels_.swiglu : kernels_.geglu;
  if (fuses_gate && down_proj_->CanFuse()) {
    const auto product = ends_block_ && GradientReplay::active() ? kernels::GatedLinearForGradients
                                                                 : kernels::GatedLinear;
    return product(activation_, gate_UF, up_UF, down_proj_->weight, down_proj_->optional_bias());
  }
  const at::Tensor inner_UF = GatedActivation(gate_UF, up_UF, activation_, kernels_);
  return ends_block_ ? down_proj_->ForwardLast(inner_UF) : down_proj_->forward(inner_UF);
}

std::shared_ptr<CausalLM> BuildDecoder(const ModelConfig& config, const KernelChoice& kernels,
                                       const at::TensorOptions& options, const MakeBlock& make) {
  return std::make_shared<Decoder>(config, kernels, options, make);
}

std::shared_ptr<CausalLM> BuildPreNormDecoder(const ModelConfig& config,
                                              const KernelChoice& kernels,
                                              const at::TensorOptions& options,
                                              const SelfAttention::Features& features,
                                              bool fused_mlp) {
  return BuildDecoder(config, kernels, options, [&](const Build& build, int64_t layer) {
    return std::make_shared<PreNormBlock<FeedForward>>(
        build, layer, features,
        std::make_shared<FeedForward>(build, /*ends_block=*/true, fused_mlp));
  });
}

}  // namespace liger::trainer
