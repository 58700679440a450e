#include "worker/trainer/loop/model_settings.h"

#include <nlohmann/json.hpp>

#include "common/file.h"
#include "worker/trainer/checkpoint/model_folder.h"

namespace liger::trainer {
namespace {

using nlohmann::json;

const char* NameOf(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return "silu";
    case Activation::kGelu:
      return "gelu";
    case Activation::kGeluTanh:
      return "gelu_pytorch_tanh";
  }
  return "";
}

const char* NameOf(RopeConfig::Type type) {
  switch (type) {
    case RopeConfig::Type::kDefault:
      return "default";
    case RopeConfig::Type::kLinear:
      return "linear";
    case RopeConfig::Type::kDynamic:
      return "dynamic";
    case RopeConfig::Type::kYarn:
      return "yarn";
    case RopeConfig::Type::kLlama3:
      return "llama3";
    case RopeConfig::Type::kLongRope:
      return "longrope";
  }
  return "";
}

json RopeSettings(const RopeConfig& rope) {
  json settings = {{"rope_type", NameOf(rope.type)},
                   {"rope_theta", rope.theta},
                   {"rotated entries of a head", rope.rotary_dim}};
  // Of plain embeddings the other numbers say nothing.
  if (rope.type == RopeConfig::Type::kDefault) return settings;
  if (rope.type == RopeConfig::Type::kDynamic) {
    settings["max_position_embeddings"] = rope.max_position_embeddings;
  }
  settings["rope's factor"] = rope.factor;
  settings["rope's attention_factor"] = rope.attention_factor;
  settings["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  settings["low_freq_factor"] = rope.low_freq_factor;
  settings["high_freq_factor"] = rope.high_freq_factor;
  settings["beta_fast"] = rope.beta_fast;
  settings["beta_slow"] = rope.beta_slow;
  settings["rope's truncate"] = rope.truncate;
  settings["short_factor"] = rope.short_factor;
  settings["long_factor"] = rope.long_factor;
  return settings;
}

}  // namespace

std::map<std::string, std::string> SettingsOf(const ModelConfig& config) {
  json settings = RopeSettings(config.rope);
  settings["model_type"] = config.model_type;
  settings["num_attention_heads"] = config.num_attention_heads;
  settings["num_key_value_heads"] = config.num_key_value_heads;
  settings["head_dim"] = config.head_dim;
  settings["rms_norm_eps"] = config.rms_norm_eps;
  settings["hidden_act"] = NameOf(config.activation);
  settings["pad_token_id"] = config.pad_token_id ? json(*config.pad_token_id) : json();
  settings["scale of attention scores"] = config.attention_scale;
  settings["attn_logit_softcapping"] = config.attn_logit_softcapping;
  settings["final_logit_softcapping"] = config.final_logit_softcapping;
  settings["sliding windows by layer"] = config.sliding_windows;
  settings["num_experts_per_tok"] = config.num_experts_per_tok;
  settings["router_aux_loss_coef"] = config.router_aux_loss_coef;
  std::map<std::string, std::string> texts;
  for (const auto& [name, value] : settings.items()) texts[name] = value.dump();
  return texts;
}

std::map<std::string, std::string> TextFilesOf(const std::string& model_dir) {
  std::map<std::string, std::string> digests;
  for (const auto& [name, path] : TokenizerFiles(model_dir)) {
    if (const auto digest = Sha256File(path); digest.ok()) digests[name] = *digest;
  }
  return digests;
}

}  // namespace liger::trainer
