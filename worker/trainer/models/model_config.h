#ifndef LIGER_WORKER_TRAINER_MODELS_MODEL_CONFIG_H_
#define LIGER_WORKER_TRAINER_MODELS_MODEL_CONFIG_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace liger::trainer {

// Rotary position embedding: how the frequencies are made.
struct RopeConfig {
  enum class Type {
    kDefault,  // Su et al. 2021 (arXiv:2104.09864)
    kLlama3,   // Llama 3.1's frequency-dependent interpolation
  };
  Type type = Type::kDefault;
  double theta = 10000.0;
  // kLlama3 only.
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 1.0;
  int64_t original_max_position_embeddings = 0;
};

// The shape of a model, from config.json. Reads both spellings that are in
// use: the hub's (rope_theta, rope_scaling, torch_dtype) and transformers 5's
// (rope_parameters, dtype). Field names are Hugging Face's.
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
  bool attention_bias = false;
  bool mlp_bias = false;
  RopeConfig rope;
  // Row of the embedding that lookups give no gradient, and that random
  // weights leave at zero.
  std::optional<int64_t> pad_token_id;
  // Ids that end a generation; config.json holds one or a list.
  std::vector<int64_t> eos_token_ids;

  // `file` is only for messages. Throws ConfigError, naming the key, for a
  // missing or ill-typed key and for every value that asks for something that
  // is not implemented; nothing is ignored silently.
  static ModelConfig FromJson(const nlohmann::json& json, const std::string& file);
  // Reads <model_dir>/config.json. Throws ConfigError also when it is absent
  // or not JSON.
  static ModelConfig FromFolder(const std::string& model_dir);
};

// eos_token_id of config.json or generation_config.json: absent, an id or a list.
// Throws ConfigError for anything else; `file` is for messages.
std::vector<int64_t> EosTokenIds(const nlohmann::json& json, const std::string& file);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_MODEL_CONFIG_H_
