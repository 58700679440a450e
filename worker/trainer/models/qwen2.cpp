// Qwen2 and Qwen2.5 (Yang et al. 2024, arXiv:2407.10671, arXiv:2412.15115): Llama
// with biases on the query, key and value projections, and a sliding window from
// some layer on, if at all.
#include "worker/trainer/models/decoder.h"
#include "worker/trainer/models/families.h"

namespace liger::trainer {

ModelConfig ParseQwen2(const ConfigReader& config) {
  ModelConfig c =
      ParseCommonConfig(config, {.num_key_value_heads = 32, .max_position_embeddings = 32768});
  c.qkv_bias = true;
  c.sliding_windows = QwenWindows(config, c);
  return c;
}

std::vector<int64_t> QwenWindows(const ConfigReader& config, const ModelConfig& parsed) {
  const auto given = config.SizeOrNone("sliding_window", 4096);
  const auto window = config.Bool("use_sliding_window", false) ? given : std::nullopt;
  // 0 is allowed here: all layers.
  const auto* first = config.Find("max_window_layers");
  const bool none_full = first && *first == 0;
  const int64_t full_layers = none_full ? 0 : config.Size("max_window_layers", 28);
  return WindowsByLayerType(config, parsed, window, WindowsFrom(parsed, full_layers, window));
}

std::shared_ptr<CausalLM> BuildQwen2(const ModelConfig& config, const KernelChoice& kernels,
                                     const at::TensorOptions& options) {
  return BuildPreNormDecoder(config, kernels, options);
}

}  // namespace liger::trainer
