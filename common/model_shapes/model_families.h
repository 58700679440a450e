#ifndef LIGER_COMMON_MODEL_SHAPES_MODEL_FAMILIES_H_
#define LIGER_COMMON_MODEL_SHAPES_MODEL_FAMILIES_H_

#include <string_view>

namespace liger {

// The families that liger-trainer trains, for people: `liger-cli models` and
// docs/models.md show them. A test compares with the trainer's registry.
struct ModelFamily {
  std::string_view model_type;  // of config.json
  std::string_view models;
  std::string_view features;  // beyond Llama's
};

inline constexpr ModelFamily kModelFamilies[] = {
    {"llama", "Llama 2, 3, 3.1, 3.2 (text), SmolLM2, Yi, ..", "-"},
    {"mistral", "Mistral 7B", "sliding window in every layer"},
    {"mixtral", "Mixtral 8x7B",
     "mixture of experts as grouped products, load-balancing loss, hub's names of the experts' "
     "weights"},
    {"gemma", "Gemma 1", "GeGLU (gelu means tanh), scaled embeddings, norms around 1 + weight"},
    {"gemma2", "Gemma 2",
     "the same; norms on both sides, capped scores and logits, own score scale, a window in every "
     "other layer"},
    {"qwen2", "Qwen2, Qwen2.5", "biases on q, k, v; window from max_window_layers on"},
    {"qwen3", "Qwen3 (dense)", "norms over each query and key head"},
    {"phi3", "Phi-3, Phi-3.5 mini",
     "fused qkv and gate_up weights, window, partial_rotary_factor, longrope"},
};

}  // namespace liger

#endif  // LIGER_COMMON_MODEL_SHAPES_MODEL_FAMILIES_H_
