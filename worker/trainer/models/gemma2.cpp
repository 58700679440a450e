// Gemma 2 (Gemma Team 2024, arXiv:2408.00118): Gemma with a norm on both sides of
// attention and feed-forward layer, capped scores and logits, its own score scale
// and a sliding window in every other layer.
#include <cmath>

#include "worker/trainer/models/decoder.h"
#include "worker/trainer/models/families.h"

namespace liger::trainer {
namespace {

class Gemma2Block : public DecoderBlock {
 public:
  Gemma2Block(const Build& build, int64_t layer) {
    const int64_t d = build.config.hidden_size;
    input_layernorm_ = AddNorm(*this, "input_layernorm", d, build);
    self_attn_ =
        AddModule<SelfAttention>(*this, "self_attn", build, layer, SelfAttention::Features());
    post_attention_layernorm_ = AddNorm(*this, "post_attention_layernorm", d, build);
    pre_feedforward_layernorm_ = AddNorm(*this, "pre_feedforward_layernorm", d, build);
    mlp_ = AddModule<FeedForward>(*this, "mlp", build, /*ends_block=*/false);
    post_feedforward_layernorm_ = AddNorm(*this, "post_feedforward_layernorm", d, build);
  }

  BlockOutput forward(const at::Tensor& in_UD, const DecoderContext& context,
                      KeyValueCache::Layer* cache) override {
    const at::Tensor attended_UD =
        self_attn_->forward(input_layernorm_->forward(in_UD), context, cache);
    const auto [normed_UD, mid_UD] = pre_feedforward_layernorm_->AddThenNorm(
        post_attention_layernorm_->forward(attended_UD), in_UD);
    const BlockOutput out = mlp_->forward(normed_UD, context);
    return mid_UD + post_feedforward_layernorm_->forward(out.hidden_TD);
  }

 private:
  std::shared_ptr<RmsNorm> input_layernorm_, post_attention_layernorm_, pre_feedforward_layernorm_,
      post_feedforward_layernorm_;
  std::shared_ptr<SelfAttention> self_attn_;
  std::shared_ptr<FeedForward> mlp_;
};

// Every other layer, from the first.
std::vector<int64_t> Alternating(const ModelConfig& config, std::optional<int64_t> window) {
  std::vector<int64_t> windows = WindowsFrom(config, 0, window);
  for (size_t layer = 1; layer < windows.size(); layer += 2) windows[layer] = 0;
  return windows;
}

}  // namespace

ModelConfig ParseGemma2(const ConfigReader& config) {
  ModelConfig c = ParseCommonConfig(config, {.num_key_value_heads = 4,
                                             .head_dim = 256,
                                             .max_position_embeddings = 8192,
                                             .tie_word_embeddings = true,
                                             .pad_token_id = 0,
                                             .activation_key = "hidden_activation",
                                             .activation = "gelu_pytorch_tanh"});
  c.qkv_bias = c.out_bias = config.Bool("attention_bias", false);
  c.unit_offset_norms = true;
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
  c.attention_scale = 1 / std::sqrt(config.Positive("query_pre_attn_scalar", 256));
  c.attn_logit_softcapping = config.PositiveOrNone("attn_logit_softcapping", 50.0).value_or(0);
  c.final_logit_softcapping = config.PositiveOrNone("final_logit_softcapping", 30.0).value_or(0);
  const auto window = config.SizeOrNone("sliding_window", 4096);
  c.sliding_windows = WindowsByLayerType(config, c, window, Alternating(c, window));
  return c;
}

std::shared_ptr<CausalLM> BuildGemma2(const ModelConfig& config, const KernelChoice& kernels,
                                      const at::TensorOptions& options) {
  return BuildDecoder(config, kernels, options, [](const Build& build, int64_t layer) {
    return std::make_shared<Gemma2Block>(build, layer);
  });
}

}  // namespace liger::trainer
