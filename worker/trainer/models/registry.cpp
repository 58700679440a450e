#include "worker/trainer/models/registry.h"

#include "worker/trainer/error.h"
#include "worker/trainer/models/families.h"
#include "worker/trainer/models/vector_math.h"

namespace liger::trainer {
namespace {

// A tied checkpoint may carry its head all the same (ModelConfig::FromFolder sees to it that
// the two are equal), and old ones buffers that transformers does not read either.
bool IgnoresWeight(const ModelConfig& config, std::string_view name) {
  return (config.tie_word_embeddings && name == "lm_head.weight") ||
         name.ends_with("rotary_emb.inv_freq") || name.ends_with("rotary_emb.cos_cached") ||
         name.ends_with("rotary_emb.sin_cached") || name == "model.causal_mask";
}

constexpr KernelChoice kAll;  // of the ops that the family has

// One line a model_type. To add one: its file, its line, its fixtures
// (tools/fixtures/model_fixtures.py). Vision models (Llama 3.2 Vision "mllama",
// "qwen2_vl") will stand here too.
constexpr ModelType kModelTypes[] = {
    {"llama", ParseLlama, BuildLlama, kAll, nullptr, IgnoresWeight},
    {"mistral", ParseMistral, BuildMistral, kAll, nullptr, IgnoresWeight},
    {"mixtral", ParseMixtral, BuildMixtral, kAll, MixtralCheckpointTensors, IgnoresWeight},
    {"gemma", ParseGemma, BuildGemma, kAll, nullptr, IgnoresWeight},
    {"gemma2", ParseGemma2, BuildGemma2, kAll, nullptr, IgnoresWeight},
    {"qwen2", ParseQwen2, BuildQwen2, kAll, nullptr, IgnoresWeight},
    {"qwen3", ParseQwen3, BuildQwen3, kAll, nullptr, IgnoresWeight},
    {"phi3", ParsePhi3, BuildPhi3, kAll, nullptr, IgnoresWeight},
};

}  // namespace

const ModelType& FindModelType(const std::string& model_type) {
  std::string known;
  for (const ModelType& type : kModelTypes) {
    if (type.name == model_type) return type;
    known += (known.empty() ? "" : ", ") + std::string(type.name);
  }
  throw ConfigError("model_type = '" + model_type + "' is not implemented",
                    "Use a model of one of these types: " + known + ".")
      .Field("model_type");
}

std::shared_ptr<CausalLM> BuildModel(const ModelConfig& config,
                                     const liger::v1::KernelSpec& kernels,
                                     const at::TensorOptions& options) {
  ResolveVectorMath();
  const ModelType& type = FindModelType(config.model_type);
  return type.build(config, KernelChoice::FromSpec(kernels, type.default_kernels), options);
}

}  // namespace liger::trainer
