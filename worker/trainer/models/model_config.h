#ifndef LIGER_WORKER_TRAINER_MODELS_MODEL_CONFIG_H_
#define LIGER_WORKER_TRAINER_MODELS_MODEL_CONFIG_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kernels/common/activation.h"
#include "worker/trainer/models/rope_config.h"

namespace liger::trainer {

using kernels::Activation;

// The shape of a model, from config.json. Reads both spellings that are in
// use: the hub's (rope_theta, rope_scaling, torch_dtype) and transformers 5's
// (rope_parameters, dtype). Field names are Hugging Face's where it has one for
// the same thing.
struct ModelConfig {
  std::string model_type;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  double initializer_range = 0;
  bool tie_word_embeddings = false;
  // config.json ties the head, but the folder's lm_head.weight differs from the embedding:
  // the model is untied then, as in transformers.
  bool has_own_head = false;
  Activation activation = Activation::kSilu;
  bool mlp_bias = false;
  RopeConfig rope;
  // Row of the embedding that lookups give no gradient, and that random
  // weights leave at zero.
  std::optional<int64_t> pad_token_id;
  // Ids that end a generation; config.json holds one or a list.
  std::vector<int64_t> eos_token_ids;

  // Attention.
  bool qkv_bias = false, out_bias = false;  // attention_bias, or what the family has
  double attention_scale = 0;               // of the scores, before softcap
  double attn_logit_softcapping = 0;        // 0: none
  // By layer: how many tokens a token sees, itself included; 0: all before it.
  std::vector<int64_t> sliding_windows;

  double embedding_scale = 1;
  double final_logit_softcapping = 0;  // 0: none
  // Norms multiply with 1 + weight, in fp32 (Gemma).
  bool unit_offset_norms = false;

  // Mixture of experts; num_local_experts 0: none.
  int64_t num_local_experts = 0, num_experts_per_tok = 0;
  double router_aux_loss_coef = 0;  // 0 also without output_router_logits

  // `file` is only for messages. Throws ConfigError, naming the key, for a
  // missing or ill-typed key and for every value that asks for something that
  // is not implemented; nothing is ignored silently.
  static ModelConfig FromJson(const nlohmann::json& json, const std::string& file);
  // Reads <model_dir>/config.json. Throws ConfigError also when it is absent
  // or not JSON. Looks at the weights, if there are any, for has_own_head.
  static ModelConfig FromFolder(const std::string& model_dir);
};

// Where families differ in what an absent key means, and in what they know.
// The defaults here are those of transformers' LlamaConfig.
struct ConfigDefaults {
  int64_t num_key_value_heads = 0;  // 0: num_attention_heads
  int64_t head_dim = 0;             // 0: hidden_size / num_attention_heads
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  std::optional<int64_t> pad_token_id;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  bool gelu_is_tanh = false;  // Gemma's first configs say gelu and mean tanh
  RopeConfig::Family rope;
};

// What every family has, filled in; a family's own parser does the rest. Each
// key that it asks the reader for counts as known.
ModelConfig ParseCommonConfig(const ConfigReader& config, const ConfigDefaults& defaults);

// The same window in `first` and every later layer.
std::vector<int64_t> WindowsFrom(const ModelConfig& config, int64_t first,
                                 std::optional<int64_t> window);
// As layer_types says ("full_attention" or "sliding_attention" a layer); without
// that key, `fallback`.
std::vector<int64_t> WindowsByLayerType(const ConfigReader& config, const ModelConfig& parsed,
                                        std::optional<int64_t> window,
                                        std::vector<int64_t> fallback);

// Qwen's: use_sliding_window, sliding_window, max_window_layers, layer_types.
std::vector<int64_t> QwenWindows(const ConfigReader& config, const ModelConfig& parsed);

// eos_token_id of config.json or generation_config.json: absent, an id or a list.
// Throws ConfigError for anything else; `file` is for messages.
std::vector<int64_t> EosTokenIds(const nlohmann::json& json, const std::string& file);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_MODEL_CONFIG_H_
