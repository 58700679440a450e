#include "worker/trainer/models/model_config.h"

#include <ATen/ops/equal.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "worker/trainer/checkpoint/model_folder.h"
#include "worker/trainer/checkpoint/weights.h"
#include "worker/trainer/error.h"
#include "worker/trainer/models/registry.h"

namespace liger::trainer {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxLayers = 1024;
constexpr double kMaxParameters = 1e13;
constexpr char kFullAttention[] = "full_attention", kSlidingAttention[] = "sliding_attention";

// A key that switches on something the code does not implement, with the value
// that leaves it off (absent and null do too).
struct Feature {
  const char* key;
  Json off;
};

// Any other value is refused, unless the family's parser asked for the key. (pretraining_tp and
// auto_map say nothing about the result: transformers 5 slices no weights, and runs its own
// class of a model_type that it has.) Keys
// of other model types are listed too: a config that carries them is not the
// plain model that its model_type claims.
const std::vector<Feature>& UnimplementedFeatures() {
  static const std::vector<Feature> features = {
      {"attention_dropout", 0.0},
      {"embd_pdrop", 0.0},
      {"resid_pdrop", 0.0},
      {"router_jitter_noise", 0.0},
      {"output_router_logits", false},
      {"use_bidirectional_attention", false},
      {"attention_bias", false},
      {"mlp_bias", false},
      {"rope_interleaved", false},
      {"partial_rotary_factor", 1.0},
      {"sliding_window", nullptr},
      {"use_sliding_window", false},
      {"quantization_config", nullptr},
      {"compression_config", nullptr},
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

void RefuseUnimplemented(const ConfigReader& config) {
  for (const Feature& feature : UnimplementedFeatures()) {
    if (config.Asked(feature.key)) continue;
    const Json* value = config.Find(feature.key);
    if (value && *value != feature.off) config.Unsupported(feature.key, *value);
  }
}

// A negative one counts from the end, as torch's embedding has it (Llama 1 says -1). transformers
// only warns of one outside of the vocabulary, and then fails; here it is refused.
std::optional<int64_t> ParsePadId(const ConfigReader& config, int64_t vocab_size,
                                  std::optional<int64_t> absent) {
  const Json* value = config.Find("pad_token_id");
  if (!value) {
    if (config.Contains("pad_token_id") || !absent) return std::nullopt;
    if (*absent < vocab_size) return absent;
    config.Fail("pad_token_id",
                "is absent, and the family's " + std::to_string(*absent) + " is not an id in [0, " +
                    std::to_string(vocab_size) + ")",
                "Set it in config.json; null stands for a model without one.");
  }
  const bool inside = value->is_number_integer() && *value >= -vocab_size && *value < vocab_size;
  if (inside) return value->get<int64_t>() + (*value < 0 ? vocab_size : 0);
  config.Fail("pad_token_id",
              "= " + ConfigReader::Shown(*value) + " is not an id in [0, " +
                  std::to_string(vocab_size) + ")",
              "Correct config.json; null stands for a model without one.");
}

void CheckHeads(const ConfigReader& config, const ModelConfig& c) {
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

Activation ParseActivation(const ConfigReader& config, const ConfigDefaults& defaults) {
  static const std::map<std::string, Activation> known = {
      {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},
      {"gelu", Activation::kGelu},
      {"gelu_new", Activation::kGeluTanh},
      {"gelu_pytorch_tanh", Activation::kGeluTanh}};
  const std::string name = config.String(defaults.activation_key, defaults.activation);
  if (name == "gelu" && defaults.gelu_is_tanh) return Activation::kGeluTanh;
  const auto it = known.find(name);
  if (it == known.end()) config.Unsupported(defaults.activation_key, name);
  return it->second;
}

// Null means as many as query heads; what absence means, a family says.
int64_t ParseKeyValueHeads(const ConfigReader& config, const ModelConfig& c,
                           const ConfigDefaults& defaults) {
  const int64_t absent = defaults.num_key_value_heads;
  return config.SizeOrNone("num_key_value_heads", absent ? absent : c.num_attention_heads)
      .value_or(c.num_attention_heads);
}

// In double: the product of absurd sizes is what this looks for.
void CheckParameterCount(const ConfigReader& config, const ModelConfig& c) {
  const double d = double(c.hidden_size);
  const double heads = 2.0 * double(c.num_attention_heads + c.num_key_value_heads);
  const double experts = double(std::max<int64_t>(c.num_local_experts, 1));
  const double block =
      d * (heads * double(c.head_dim) + 3.0 * experts * double(c.intermediate_size));
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

int64_t DefaultHeadDim(const ConfigReader& config, const ModelConfig& c,
                       const ConfigDefaults& defaults) {
  if (defaults.head_dim != 0) return defaults.head_dim;
  if (!config.Find("head_dim") && c.hidden_size % c.num_attention_heads != 0) {
    config.Fail("hidden_size",
                "is not a multiple of num_attention_heads, and head_dim is not given",
                "Correct config.json.");
  }
  return std::max<int64_t>(c.hidden_size / c.num_attention_heads, 1);
}

}  // namespace

std::vector<int64_t> EosTokenIds(const Json& json, const std::string& file) {
  const ConfigReader reader(json, file);
  const Json* value = reader.Find("eos_token_id");
  if (!value) return {};
  const Json list = value->is_array() ? *value : Json::array({*value});
  std::vector<int64_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer()) {
      reader.Fail("eos_token_id",
                  "= " + ConfigReader::Shown(*value) + " is neither an id nor a list of ids",
                  "Correct the file; null stands for a model without one.");
    }
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

ModelConfig ParseCommonConfig(const ConfigReader& config, const ConfigDefaults& defaults) {
  ModelConfig c;
  c.model_type = config.String("model_type");
  c.vocab_size = config.Size("vocab_size");
  c.hidden_size = config.Size("hidden_size");
  c.intermediate_size = config.Size("intermediate_size");
  c.num_hidden_layers = config.Size("num_hidden_layers", std::nullopt, kMaxLayers);
  c.num_attention_heads = config.Size("num_attention_heads");
  c.num_key_value_heads = ParseKeyValueHeads(config, c, defaults);
  c.head_dim = config.Size("head_dim", DefaultHeadDim(config, c, defaults));
  c.max_position_embeddings =
      config.Size("max_position_embeddings", defaults.max_position_embeddings);
  c.rms_norm_eps = config.Positive("rms_norm_eps", defaults.rms_norm_eps);
  c.initializer_range = config.Positive("initializer_range", 0.02);
  c.tie_word_embeddings = config.Bool("tie_word_embeddings", defaults.tie_word_embeddings);
  c.activation = ParseActivation(config, defaults);
  CheckHeads(config, c);
  c.rope = RopeConfig::Parse(config, c.head_dim, c.max_position_embeddings, defaults.rope);
  c.eos_token_ids = EosTokenIds(config.json(), config.file());
  c.pad_token_id = ParsePadId(config, c.vocab_size, defaults.pad_token_id);
  c.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  c.sliding_windows.assign(c.num_hidden_layers, 0);
  return c;
}

std::vector<int64_t> WindowsFrom(const ModelConfig& config, int64_t first,
                                 std::optional<int64_t> window) {
  std::vector<int64_t> windows(config.num_hidden_layers, 0);
  for (int64_t layer = first; layer < config.num_hidden_layers; ++layer) {
    windows[layer] = window.value_or(0);
  }
  return windows;
}

std::vector<int64_t> WindowsByLayerType(const ConfigReader& config, const ModelConfig& parsed,
                                        std::optional<int64_t> window,
                                        std::vector<int64_t> fallback) {
  const Json* types = config.Find("layer_types");
  if (!types) return fallback;
  const bool right =
      types->is_array() && static_cast<int64_t>(types->size()) == parsed.num_hidden_layers;
  if (!right) {
    config.Fail("layer_types", "= " + ConfigReader::Shown(*types) + " does not list " +
                                   std::to_string(parsed.num_hidden_layers) + " layers");
  }
  std::vector<int64_t> windows;
  for (const Json& type : *types) {
    if (type != kFullAttention && type != kSlidingAttention) {
      config.Unsupported("layer_types", type);
    }
    windows.push_back(type == kSlidingAttention ? window.value_or(0) : 0);
  }
  return windows;
}

ModelConfig ModelConfig::FromJson(const Json& json, const std::string& file) {
  const ConfigReader config(json, file);
  const ModelType& type = FindModelType(config.String("model_type"));
  ModelConfig c = type.parse(config);
  RefuseUnimplemented(config);
  // Families whose layers are all alike may still list them.
  if (!config.Asked("layer_types")) {
    const auto listed = WindowsByLayerType(config, c, c.sliding_windows.front(), c.sliding_windows);
    if (listed != c.sliding_windows) config.Unsupported("layer_types", json.at("layer_types"));
  }
  CheckParameterCount(config, c);
  return c;
}

namespace {

// Whether a folder's weights hold both, and not the same values.
bool HeadDiffersFromEmbedding(const std::string& model_dir) {
  constexpr char kHead[] = "lm_head.weight", kEmbedding[] = "model.embed_tokens.weight";
  try {
    const WeightReader reader = WeightReader::Open(model_dir);
    if (!reader.Has(kHead) || !reader.Has(kEmbedding)) return false;
    const at::Tensor head = reader.View(kHead), embedding = reader.View(kEmbedding);
    return !at::equal(head, embedding.to(head.scalar_type()));
  } catch (const TrainerError&) {
    return false;  // no weights, or bad ones: whoever loads them says so
  }
}

}  // namespace

ModelConfig ModelConfig::FromFolder(const std::string& model_dir) {
  ModelConfig c = FromJson(ReadModelConfig(model_dir), model_dir + "/config.json");
  c.has_own_head = c.tie_word_embeddings && HeadDiffersFromEmbedding(model_dir);
  if (c.has_own_head) c.tie_word_embeddings = false;
  return c;
}

}  // namespace liger::trainer
