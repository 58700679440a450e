// Qwen3's dense models (Yang et al. 2025, arXiv:2505.09388): Qwen2 without biases
// and with a norm over each query and key head.
#include "worker/trainer/models/decoder.h"
#include "worker/trainer/models/families.h"

namespace liger::trainer {

ModelConfig ParseQwen3(const ConfigReader& config) {
  ModelConfig c = ParseCommonConfig(
      config, {.num_key_value_heads = 32, .head_dim = 128, .max_position_embeddings = 32768});
  c.qkv_bias = c.out_bias = config.Bool("attention_bias", false);
  c.sliding_windows = QwenWindows(config, c);
  return c;
}

std::shared_ptr<CausalLM> BuildQwen3(const ModelConfig& config, const KernelChoice& kernels,
                                     const at::TensorOptions& options) {
  return BuildPreNormDecoder(config, kernels, options, {.qk_norm = true});
}

}  // namespace liger::trainer
