// Llama 2 (Touvron et al. 2023, arXiv:2307.09288) and 3 (Grattafiori et al. 2024,
// arXiv:2407.21783), and what calls itself a llama on the hub (SmolLM2, Yi, ..).
#include "worker/trainer/models/decoder.h"
#include "worker/trainer/models/families.h"

namespace liger::trainer {

ModelConfig ParseLlama(const ConfigReader& config) {
  ModelConfig c = ParseCommonConfig(config, {});
  c.qkv_bias = c.out_bias = config.Bool("attention_bias", false);
  c.mlp_bias = config.Bool("mlp_bias", false);
  return c;
}

std::shared_ptr<CausalLM> BuildLlama(const ModelConfig& config, const KernelChoice& kernels,
                                     const at::TensorOptions& options) {
  return BuildPreNormDecoder(config, kernels, options);
}

}  // namespace liger::trainer
