#include "worker/trainer/models/model_config.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "worker/trainer/checkpoint/model_folder.h"
#include "worker/trainer/error.h"
#include "worker/trainer/models/registry.h"

namespace liger::trainer {
namespace {

using Json = nlohmann::json;

// Larger than any model's, small enough that nothing computed of them overflows
// and that a config of nonsense is refused before a model is built of it.
constexpr int64_t kMaxSize = int64_t{1} << 26;
constexpr int64_t kMaxLayers = 1024;
constexpr double kMaxParameters = 1e13;

// One JSON object with messages that name the key; null counts as absent, as
// in transformers.
class Reader {
 public:
  Reader(const Json& json, std::string file, std::string prefix = "")
      : json_(json), file_(std::move(file)), prefix_(std::move(prefix)) {}

  const Json* Find(const char* key) const {
    auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }

  [[noreturn]] void Fail(const std::string& key, const std::string& problem,
                         const std::string& action) const {
    throw ConfigError(file_ + ": " + prefix_ + key + " " + problem, action)
        .Field(prefix_ + key)
        .File(file_);
  }

  [[noreturn]] void Unsupported(const std::string& key, const Json& value) const {
    Fail(key, "= " + Shown(value) + " is not implemented",
         "Use a model without this feature; it cannot be ignored without changing the result.");
  }

  int64_t Size(const char* key, std::optional<int64_t> fallback = std::nullopt,
               int64_t max = kMaxSize) const {
    const Json* value = Find(key);
    if (!value && fallback) return *fallback;
    if (!value) Fail(key, "is missing", kComplete);
    if (!value->is_number_integer()) Fail(key, "= " + Shown(*value) + " is not an integer", kFix);
    const bool small = value->is_number_unsigned() ? value->get<uint64_t>() <= uint64_t(max)
                                                   : value->get<int64_t>() <= max;
    if (!small || value->get<int64_t>() < 1) {
      Fail(key, "= " + Shown(*value) + " is outside [1, " + std::to_string(max) + "]", kFix);
    }
    return value->get<int64_t>();
  }

  double Positive(const char* key, std::optional<double> fallback = std::nullopt) const {
    const Json* value = Find(key);
    if (!value && fallback) return *fallback;
    if (!value) Fail(key, "is missing", kComplete);
    if (!value->is_number()) Fail(key, "= " + Shown(*value) + " is not a number", kFix);
    if (!(value->get<double>() > 0)) Fail(key, "= " + Shown(*value) + " is not positive", kFix);
    return value->get<double>();
  }

  bool Bool(const char* key, bool fallback) const {
    const Json* value = Find(key);
    if (!value) return fallback;
    if (!value->is_boolean()) Fail(key, "= " + Shown(*value) + " is not true or false", kFix);
    return value->get<bool>();
  }

  std::string String(const char* key) const {
    const Json* value = Find(key);
    if (!value) Fail(key, "is missing", kComplete);
    if (!value->is_string()) Fail(key, "= " + Shown(*value) + " is not a string", kFix);
    return value->get<std::string>();
  }

  // A value as it stands in the file, cut short.
  static std::string Shown(const Json& value) {
    const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return text.size() <= 80 ? text : text.substr(0, 77) + "...";
  }

  const Json& json() const { return json_; }
  const std::string& file() const { return file_; }

 private:
  static constexpr const char* kComplete = "Download the model's config.json again.";
  static constexpr const char* kFix = "Correct the value in config.json.";

  const Json& json_;
  std::string file_;
  std::string prefix_;
};

// A key that switches on something the code does not implement, with the value
// that leaves it off (absent and null do too).
struct Feature {
  const char* key;
  Json off;
};

// Any other value is refused. Keys of other model types are listed too: a
// config that carries them is not the plain model that its model_type claims.
const std::vector<Feature>& UnimplementedFeatures() {
  static const std::vector<Feature> features = {
      {"hidden_act", "silu"},
      {"pretraining_tp", 1},
      {"attention_dropout", 0.0},
      {"rope_interleaved", false},
      {"partial_rotary_factor", 1.0},
      {"sliding_window", nullptr},
      {"use_sliding_window", false},
      {"quantization_config", nullptr},
      {"compression_config", nullptr},
      {"auto_map", nullptr},
      {"is_encoder_decoder", false},
      {"add_cross_attention", false},
      {"num_experts", nullptr},
      {"num_local_experts", nullptr},
      {"no_rope_layers", nullptr},
      {"use_qk_norm", false},
      {"qk_layernorm", false},
      {"attn_logit_softcapping", nullptr},
      {"final_logit_softcapping", nullptr},
      {"embedding_multiplier", 1.0},
      {"residual_multiplier", 1.0},
      {"logits_scaling", 1.0},
  };
  return features;
}

void RefuseUnimplemented(const Reader& config) {
  for (const Feature& feature : UnimplementedFeatures()) {
    const Json* value = config.Find(feature.key);
    if (value && *value != feature.off) config.Unsupported(feature.key, *value);
  }
  if (const Json* layers = config.Find("layer_types")) {
    for (const Json& type : *layers) {
      if (type != "full_attention") config.Unsupported("layer_types", type);
    }
  }
}

void CheckRopeKeys(const Reader& rope) {
  static const std::set<std::string> known = {
      "type",   "rope_type",       "rope_theta",       "partial_rotary_factor",
      "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"};
  for (const auto& [key, value] : rope.json().items()) {
    if (!known.count(key)) rope.Unsupported(key, value);
  }
  if (const Json* partial = rope.Find("partial_rotary_factor"); partial && *partial != 1.0) {
    rope.Unsupported("partial_rotary_factor", *partial);
  }
}

RopeConfig ParseRope(const Reader& config) {
  RopeConfig rope;
  rope.theta = config.Positive("rope_theta", 10000.0);
  // transformers' `rope_scaling or rope_parameters`.
  const Json* scaling = config.Find("rope_scaling");
  const char* key = scaling && !scaling->empty() ? "rope_scaling" : "rope_parameters";
  const Json* json = config.Find(key);
  if (!json) return rope;
  if (!json->is_object()) config.Unsupported(key, *json);

  const Reader reader(*json, config.file(), std::string(key) + ".");
  const char* type_key = reader.Find("rope_type") ? "rope_type" : "type";
  const std::string type = reader.Find(type_key) ? reader.String(type_key) : "default";
  if (type != "default" && type != "llama3") reader.Unsupported(type_key, type);
  CheckRopeKeys(reader);
  rope.theta = reader.Positive("rope_theta", rope.theta);
  if (type == "default") return rope;

  rope.type = RopeConfig::Type::kLlama3;
  rope.factor = reader.Positive("factor");
  rope.low_freq_factor = reader.Positive("low_freq_factor");
  rope.high_freq_factor = reader.Positive("high_freq_factor");
  rope.original_max_position_embeddings = reader.Size("original_max_position_embeddings");
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    reader.Fail("high_freq_factor", "must be greater than low_freq_factor", "Correct config.json.");
  }
  return rope;
}

// transformers only warns of one outside of the vocabulary, and then fails or
// takes a negative one from the end; here it is refused.
std::optional<int64_t> ParsePadId(const Reader& config, int64_t vocab_size) {
  const Json* value = config.Find("pad_token_id");
  if (!value) return std::nullopt;
  const bool inside = value->is_number_integer() && *value >= 0 && *value < vocab_size;
  if (inside) return value->get<int64_t>();
  config.Fail(
      "pad_token_id",
      "= " + Reader::Shown(*value) + " is not an id in [0, " + std::to_string(vocab_size) + ")",
      "Correct config.json; null stands for a model without one.");
}

void CheckHeads(const Reader& config, const ModelConfig& c) {
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    config.Fail(
        "num_attention_heads",
        "= " + std::to_string(c.num_attention_heads) +
            " is not a multiple of num_key_value_heads = " + std::to_string(c.num_key_value_heads),
        "Correct config.json.");
  }
  if (c.head_dim % 2 != 0) {
    config.Fail("head_dim", "= " + std::to_string(c.head_dim) + " is odd; rope rotates pairs",
                "Correct config.json.");
  }
}

// In double: the product of absurd sizes is what this looks for.
void CheckParameterCount(const Reader& config, const ModelConfig& c) {
  const double d = double(c.hidden_size);
  const double heads = 2.0 * double(c.num_attention_heads + c.num_key_value_heads);
  const double block = d * (heads * double(c.head_dim) + 3.0 * double(c.intermediate_size));
  const double parameters = d * double(c.vocab_size) + double(c.num_hidden_layers) * block;
  if (parameters <= kMaxParameters) return;
  config.Fail("hidden_size",
              "= " + std::to_string(c.hidden_size) + " makes more than 10^13 parameters with " +
                  "num_hidden_layers = " + std::to_string(c.num_hidden_layers) +
                  ", intermediate_size = " + std::to_string(c.intermediate_size) +
                  ", vocab_size = " + std::to_string(c.vocab_size) +
                  " and num_attention_heads = " + std::to_string(c.num_attention_heads) +
                  " of head_dim = " + std::to_string(c.head_dim),
              "Correct config.json.");
}

int64_t DefaultHeadDim(const Reader& config, const ModelConfig& c) {
  if (!config.Find("head_dim") && c.hidden_size % c.num_attention_heads != 0) {
    config.Fail("hidden_size",
                "is not a multiple of num_attention_heads, and head_dim is not given",
                "Correct config.json.");
  }
  return std::max<int64_t>(c.hidden_size / c.num_attention_heads, 1);
}

}  // namespace

std::vector<int64_t> EosTokenIds(const Json& json, const std::string& file) {
  const Reader reader(json, file);
  const Json* value = reader.Find("eos_token_id");
  if (!value) return {};
  const Json list = value->is_array() ? *value : Json::array({*value});
  std::vector<int64_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer()) {
      reader.Fail("eos_token_id",
                  "= " + Reader::Shown(*value) + " is neither an id nor a list of ids",
                  "Correct the file; null stands for a model without one.");
    }
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

ModelConfig ModelConfig::FromJson(const Json& json, const std::string& file) {
  const Reader config(json, file);
  ModelConfig c;
  c.model_type = config.String("model_type");
  FindModelType(c.model_type);
  RefuseUnimplemented(config);

  c.vocab_size = config.Size("vocab_size");
  c.hidden_size = config.Size("hidden_size");
  c.intermediate_size = config.Size("intermediate_size");
  c.num_hidden_layers = config.Size("num_hidden_layers", std::nullopt, kMaxLayers);
  c.num_attention_heads = config.Size("num_attention_heads");
  c.num_key_value_heads = config.Size("num_key_value_heads", c.num_attention_heads);
  c.head_dim = config.Size("head_dim", DefaultHeadDim(config, c));
  // The fallbacks are the defaults of transformers' LlamaConfig.
  c.max_position_embeddings = config.Size("max_position_embeddings", 2048);
  c.rms_norm_eps = config.Positive("rms_norm_eps", 1e-6);
  c.initializer_range = config.Positive("initializer_range", 0.02);
  c.tie_word_embeddings = config.Bool("tie_word_embeddings", false);
  c.attention_bias = config.Bool("attention_bias", false);
  c.mlp_bias = config.Bool("mlp_bias", false);
  c.rope = ParseRope(config);
  c.eos_token_ids = EosTokenIds(json, file);
  c.pad_token_id = ParsePadId(config, c.vocab_size);
  CheckHeads(config, c);
  CheckParameterCount(config, c);
  return c;
}

ModelConfig ModelConfig::FromFolder(const std::string& model_dir) {
  return FromJson(ReadModelConfig(model_dir), model_dir + "/config.json");
}

}  // namespace liger::trainer
