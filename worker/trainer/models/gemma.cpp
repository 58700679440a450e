// Gemma 1 (Gemma Team 2024, arXiv:2403.08295): Llama with GeGLU, scaled
// embeddings and norms around 1 + weight.
#include <cmath>

#include "worker/trainer/models/decoder.h"
#include "worker/trainer/models/families.h"

namespace liger::trainer {

ModelConfig ParseGemma(const ConfigReader& config) {
  ModelConfig c = ParseCommonConfig(config, {.num_key_value_heads = 16,
                                             .head_dim = 256,
                                             .max_position_embeddings = 8192,
                                             .tie_word_embeddings = true,
                                             .pad_token_id = 0,
                                             .activation = "gelu_pytorch_tanh",
                                             .gelu_is_tanh = true});
  c.qkv_bias = c.out_bias = config.Bool("attention_bias", false);
  c.unit_offset_norms = true;
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
  return c;
}

std::shared_ptr<CausalLM> BuildGemma(const ModelConfig& config, const KernelChoice& kernels,
                                     const at::TensorOptions& options) {
  return BuildPreNormDecoder(config, kernels, options);
}

}  // namespace liger::trainer
