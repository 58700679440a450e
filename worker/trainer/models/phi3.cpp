// Phi-3 and Phi-3.5 (Abdin et al. 2024, arXiv:2404.14219): Llama with fused
// projections, a sliding window, and longrope for the 128k contexts.
#include "worker/trainer/models/decoder.h"
#include "worker/trainer/models/families.h"

namespace liger::trainer {

ModelConfig ParsePhi3(const ConfigReader& config) {
  ModelConfig c = ParseCommonConfig(
      config, {.max_position_embeddings = 4096,
               .rms_norm_eps = 1e-5,
               .pad_token_id = 32000,
               .rope = {.partial = true, .original_length = 4096, .yarn_is_longrope = true}});
  c.sliding_windows = WindowsFrom(c, 0, config.SizeOrNone("sliding_window", std::nullopt));
  // Names the hub's own Python, which is this architecture.
  (void)config.Find("auto_map");
  return c;
}

std::shared_ptr<CausalLM> BuildPhi3(const ModelConfig& config, const KernelChoice& kernels,
                                    const at::TensorOptions& options) {
  return BuildPreNormDecoder(config, kernels, options, {.fused_qkv = true}, /*fused_mlp=*/true);
}

}  // namespace liger::trainer
