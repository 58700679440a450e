#include "worker/trainer/gguf/folder_files.h"

#include <cmath>
#include <numbers>

#include "worker/trainer/error.h"
#include "worker/trainer/gguf/dequantize.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

// Where a file asks for more than can be imported.
constexpr char kUseFolder[] =
    "Use the model's Hugging Face folder (docs/models.md lists the families).";

// Keys of a Llama's config are "llama.<name>".
class LlamaKeys {
 public:
  explicit LlamaKeys(const GgufFile& file) : file_(file) {
    const std::string architecture = file.String("general.architecture").value_or("");
    if (architecture != "llama") {
      file.FailAt("general.architecture",
                  "is '" + architecture + "'; only llama's files can be imported", kUseFolder);
    }
    if (file.Integer("llama.expert_count").value_or(0) != 0) {
      file.FailAt("llama.expert_count", "asks for a mixture of experts, which is not implemented",
                  kUseFolder);
    }
  }

  int64_t Required(const std::string& name) const {
    const auto value = file_.Integer("llama." + name);
    if (!value) file_.FailAt("llama." + name, "is missing");
    return *value;
  }
  std::optional<int64_t> Integer(const std::string& name) const {
    return file_.Integer("llama." + name);
  }
  std::optional<double> Number(const std::string& name) const {
    return file_.Number("llama." + name);
  }
  bool Has(const std::string& name) const { return file_.Has("llama." + name); }
  // Of a number that does nothing when it is `neutral` or absent.
  void RequireNeutral(const std::string& name, double neutral) const {
    const auto value = Number(name);
    if (value && *value != neutral) FailUnknown(name, "is " + ordered_json(*value).dump());
  }
  [[noreturn]] void Fail(const std::string& name, const std::string& what) const {
    file_.FailAt("llama." + name, what);
  }
  [[noreturn]] void FailUnknown(const std::string& name, const std::string& what) const {
    file_.FailAt("llama." + name, what + ", which is not implemented", kUseFolder);
  }

 private:
  const GgufFile& file_;
};

// Llama 3.1's scaling comes as a tensor: what each frequency is divided by.
constexpr char kRopeFactors[] = "rope_freqs.weight";
constexpr double kLowFrequencyFactor = 1, kHighFrequencyFactor = 4, kOriginalContext = 8192;

double Llama3Factor(double frequency, double factor) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < kOriginalContext / kHighFrequencyFactor) return 1;
  if (wavelength > kOriginalContext / kLowFrequencyFactor) return factor;
  const double smooth = (kOriginalContext / wavelength - kLowFrequencyFactor) /
                        (kHighFrequencyFactor - kLowFrequencyFactor);
  return 1 / ((1 - smooth) / factor + smooth);
}

ordered_json Llama3Scaling(const GgufFile& file, const GgufTensor& tensor, double theta,
                           int64_t head_dim) {
  const at::Tensor factors = Dequantize(file, tensor);
  const float* values = factors.const_data_ptr<float>();
  const double factor = values[tensor.numel() - 1];
  bool known = tensor.numel() == head_dim / 2 && factor > 0;
  for (int64_t i = 0; known && i < tensor.numel(); ++i) {
    const double frequency = std::pow(theta, -2.0 * double(i) / double(head_dim));
    const double expected = Llama3Factor(frequency, factor);
    known = std::abs(values[i] - expected) <= 1e-4 * expected;
  }
  if (!known) {
    throw ConfigError(file.path() + ": byte " + std::to_string(tensor.begin) + ": " + kRopeFactors +
                          " is not the scaling of Llama 3.1 and 3.2",
                      "Use the model's original Hugging Face folder.")
        .File(file.path());
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", kLowFrequencyFactor},
          {"high_freq_factor", kHighFrequencyFactor},
          {"original_max_position_embeddings", int64_t(kOriginalContext)}};
}

void AddYarn(const LlamaKeys& keys, ordered_json& scaling) {
  scaling["original_max_position_embeddings"] =
      keys.Required("rope.scaling.original_context_length");
  for (const char* name : {"beta_fast", "beta_slow"}) {
    if (const auto value = keys.Number("rope.scaling.yarn_" + std::string(name))) {
      scaling[name] = *value;
    }
  }
  keys.RequireNeutral("rope.scaling.yarn_ext_factor", 1);
  keys.RequireNeutral("rope.scaling.yarn_attn_factor", 1);
  keys.RequireNeutral("rope.scaling.yarn_log_multiplier", 0);
}

// What a Llama of transformers does not have.
void RefuseOtherModels(const GgufFile& file, const LlamaKeys& keys, int64_t context) {
  keys.RequireNeutral("logit_scale", 1);
  keys.RequireNeutral("residual_scale", 1);
  keys.RequireNeutral("embedding_scale", 1);
  keys.RequireNeutral("attention.scale", 0);
  keys.RequireNeutral("attn_logit_softcapping", 0);
  keys.RequireNeutral("final_logit_softcapping", 0);
  keys.RequireNeutral("rope.scaling.attn_factor", 1);
  const int64_t window = keys.Integer("attention.sliding_window").value_or(0);
  if (window != 0 && window < context) {
    keys.FailUnknown("attention.sliding_window",
                     "is " + std::to_string(window) + ", shorter than the context");
  }
  const auto has = [&](const char* name) {
    return file.tensors().contains("blk.0." + std::string(name) + ".bias");
  };
  if (has("attn_q") && !has("attn_output")) {
    throw ConfigError(file.path() + ": its attention has biases for q, k and v and none for the "
                      "output, as Qwen2 and no Llama has, which is not implemented", kUseFolder)
        .File(file.path());
  }
}

// rope_scaling, or null.
ordered_json RopeScaling(const GgufFile& file, const LlamaKeys& keys, double theta,
                         int64_t head_dim) {
  const auto factors = file.tensors().find(kRopeFactors);
  if (factors != file.tensors().end()) {
    return Llama3Scaling(file, factors->second, theta, head_dim);
  }
  // What llama.cpp reads: linear where no type is named, the factor under an old name too.
  const std::string type = file.String("llama.rope.scaling.type").value_or("linear");
  if (type == "none") return nullptr;
  if (type != "linear" && type != "yarn") {
    keys.FailUnknown("rope.scaling.type", "is '" + type + "'");
  }
  const auto factor = keys.Has("rope.scaling.factor") ? keys.Number("rope.scaling.factor")
                                                      : keys.Number("rope.scale_linear");
  if (!factor && file.Has("llama.rope.scaling.type")) {
    keys.Fail("rope.scaling.factor", "is missing");
  }
  if (!factor || (type == "linear" && (*factor == 0 || *factor == 1))) return nullptr;
  ordered_json scaling = {{"rope_type", type}, {"factor", *factor}};
  if (type == "yarn") AddYarn(keys, scaling);
  return scaling;
}

const GgufTensor& RequireMatrix(const GgufFile& file, const std::string& name) {
  const auto it = file.tensors().find(name);
  if (it != file.tensors().end() && it->second.shape.size() == 2) return it->second;
  throw ConfigError(file.path() + " has no matrix " + name,
                    "Use a GGUF file of a whole model (not a shard, an adapter or a vocabulary).")
      .File(file.path());
}

int64_t HeadDim(const LlamaKeys& keys, int64_t hidden_size, int64_t heads) {
  const int64_t head_dim =
      keys.Integer("attention.key_length").value_or(heads == 0 ? 0 : hidden_size / heads);
  const int64_t values = keys.Integer("attention.value_length").value_or(head_dim);
  if (values != head_dim) {
    keys.FailUnknown("attention.value_length", "differs from attention.key_length");
  }
  if (keys.Integer("rope.dimension_count").value_or(head_dim) != head_dim) {
    keys.FailUnknown("rope.dimension_count", "is not all of a head");
  }
  return head_dim;
}

// The roles of tokens that config.json and generation_config.json name.
void AddTokenIds(const GgufFile& file, ordered_json& json) {
  for (const auto& [key, gguf_key] :
       {std::pair("bos_token_id", "tokenizer.ggml.bos_token_id"),
        std::pair("eos_token_id", "tokenizer.ggml.eos_token_id"),
        std::pair("pad_token_id", "tokenizer.ggml.padding_token_id")}) {
    if (const auto id = file.Integer(gguf_key)) json[key] = *id;
  }
}

}  // namespace

ordered_json GgufConfig(const GgufFile& file) {
  const LlamaKeys keys(file);
  const int64_t hidden_size = keys.Required("embedding_length");
  const int64_t heads = keys.Required("attention.head_count");
  const int64_t head_dim = HeadDim(keys, hidden_size, heads);
  const double theta = keys.Number("rope.freq_base").value_or(10000);
  const auto epsilon = keys.Number("attention.layer_norm_rms_epsilon");
  if (!epsilon) keys.Fail("attention.layer_norm_rms_epsilon", "is missing");
  const int64_t context = keys.Required("context_length");
  RefuseOtherModels(file, keys, context);
  const auto has = [&](const char* name) { return file.tensors().contains(name); };
  ordered_json config = {
      {"architectures", {"LlamaForCausalLM"}},
      {"model_type", "llama"},
      {"vocab_size", RequireMatrix(file, "token_embd.weight").shape[0]},
      {"hidden_size", hidden_size},
      {"intermediate_size", keys.Required("feed_forward_length")},
      {"num_hidden_layers", keys.Required("block_count")},
      {"num_attention_heads", heads},
      {"num_key_value_heads", keys.Integer("attention.head_count_kv").value_or(heads)},
      {"head_dim", head_dim},
      {"hidden_act", "silu"},
      {"max_position_embeddings", context},
      {"initializer_range", 0.02},
      {"rms_norm_eps", *epsilon},
      {"rope_theta", theta},
      {"rope_scaling", RopeScaling(file, keys, theta, head_dim)},
      {"attention_bias", has("blk.0.attn_q.bias")},
      {"mlp_bias", has("blk.0.ffn_gate.bias")},
      {"tie_word_embeddings", !has("output.weight")},
  };
  AddTokenIds(file, config);
  return config;
}

ordered_json GgufGenerationConfig(const GgufFile& file) {
  ordered_json config = {{"_from_model_config", true}};
  AddTokenIds(file, config);
  return config;
}

}  // namespace liger::trainer
