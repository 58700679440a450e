// Mistral 7B (Jiang et al. 2023, arXiv:2310.06825): Llama with a sliding window in
// every layer.
#include "worker/trainer/models/decoder.h"
#include "worker/trainer/models/families.h"

namespace liger::trainer {

ModelConfig ParseMistral(const ConfigReader& config) {
  ModelConfig c =
      ParseCommonConfig(config, {.num_key_value_heads = 8, .max_position_embeddings = 4096 * 32});
  c.sliding_windows = WindowsFrom(c, 0, config.SizeOrNone("sliding_window", 4096));
  return c;
}

std::shared_ptr<CausalLM> BuildMistral(const ModelConfig& config, const KernelChoice& kernels,
                                       const at::TensorOptions& options) {
  return BuildPreNormDecoder(config, kernels, options);
}

}  // namespace liger::trainer
