#include "worker/trainer/text/special_tokens.h"

#include <filesystem>

#include "worker/trainer/json_file.h"
#include "worker/trainer/text/config_node.h"

namespace liger::trainer {
namespace {

constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

// A token is written as a string or as an object with "content".
std::string Content(const ConfigNode& token) {
  return token.IsString() ? token.String() : token.String("content");
}

}  // namespace

nlohmann::ordered_json ReadSpecialTokens(const std::string& model_dir) {
  nlohmann::ordered_json tokens = nlohmann::ordered_json::object();
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const std::string path = (std::filesystem::path(model_dir) / name).string();
    if (!std::filesystem::exists(path)) continue;
    const nlohmann::json json = ReadJsonFile(path);
    const ConfigNode config(json, path, "");
    for (const char* role : kRoles) {
      if (config.Has(role) && !tokens.contains(role)) tokens[role] = Content(config.At(role));
    }
    // Tokens of other roles, e.g. image_token, that transformers 5 names so.
    for (const char* group : {"extra_special_tokens", "model_specific_special_tokens"}) {
      if (!config.Has(group) || !config.At(group).json().is_object()) continue;
      for (const auto& [role, token] : config.At(group).Object()) tokens[role] = Content(token);
    }
  }
  return tokens;
}

}  // namespace liger::trainer
