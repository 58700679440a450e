#include "worker/trainer/text/special_tokens.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <vector>

#include "worker/trainer/json_file.h"
#include "worker/trainer/text/config_node.h"

namespace liger::trainer {
namespace {

using nlohmann::json;

constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

bool IsRole(const std::string& key) {
  return std::find(std::begin(kRoles), std::end(kRoles), key) != std::end(kRoles);
}

// A token, written as a string or as an object with "content", with the flags of
// tokenizers.AddedToken; `special` where the file does not say it.
json Entry(const ConfigNode& token, bool special) {
  if (token.IsString()) {
    return {{"content", token.String()}, {"special", special}, {"normalized", !special}};
  }
  special = token.Bool("special", special);
  json entry = {{"content", token.String("content")}, {"special", special}};
  entry["normalized"] = token.Bool("normalized", !special);
  for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
    entry[flag] = token.Bool(flag, false);
  }
  return entry;
}

// A file of the folder; an empty object where it does not exist.
class ConfigFile {
 public:
  ConfigFile(const std::string& model_dir, const char* name)
      : path_((std::filesystem::path(model_dir) / name).string()) {
    if (!std::filesystem::exists(path_)) return;
    json_ = ReadJsonFile(path_);
    ordered_ = nlohmann::ordered_json::parse(ReadTextFile(path_));
  }
  ConfigNode root() const { return ConfigNode(json_, path_, ""); }
  // The same with its keys in the file's order, in which transformers adds tokens.
  const nlohmann::ordered_json& ordered() const { return ordered_; }

 private:
  std::string path_;
  json json_ = json::object();
  nlohmann::ordered_json ordered_ = nlohmann::ordered_json::object();
};

// What the files say of a token, the last one's word for each role.
class NamedTokens {
 public:
  void ReadRoles(const ConfigFile& config) {
    const ConfigNode file = config.root();
    if (!file.json().is_object()) file.Fail("must be an object");
    for (const auto& item : config.ordered().items()) {
      const std::string& key = item.key();
      const ConfigNode token = file.At(key.c_str());
      const bool is_token = token.IsString() || token.Has("content");
      if (token.IsNull() || (!IsRole(key) && !(key.ends_with("_token") && is_token))) continue;
      Set(key, token);
    }
    // Tokens of other roles, e.g. image_token, that transformers 5 names so; or a list of some
    // without roles.
    const bool has_extra = file.Has("extra_special_tokens");
    for (const char* group : {"model_specific_special_tokens", "extra_special_tokens"}) {
      if (file.Has(group)) ReadGroup(file.At(group), config.ordered().at(group));
    }
    constexpr char kOldName[] = "additional_special_tokens";
    if (!has_extra && file.Has(kOldName)) {
      ReadGroup(file.At(kOldName), config.ordered().at(kOldName));
    }
  }

  void WriteTo(ConfigTokens* out) const {
    const auto add = [&](const std::string& role) {
      const auto it = entries_.find(role);
      if (it == entries_.end()) return;
      out->roles[role] = it->second["content"];
      out->named.push_back(it->second);
    };
    for (const char* role : kRoles) add(role);
    for (const std::string& role : others_) add(role);
    for (const json& entry : nameless_) out->named.push_back(entry);
  }

 private:
  void Set(const std::string& role, const ConfigNode& token) {
    if (!IsRole(role) && !entries_.contains(role)) others_.push_back(role);
    entries_[role] = Special(token);
  }
  void ReadGroup(const ConfigNode& group, const nlohmann::ordered_json& ordered) {
    if (group.json().is_object()) {
      for (const auto& item : ordered.items()) Set(item.key(), group.At(item.key().c_str()));
    } else {
      for (const ConfigNode& token : group.Array()) nameless_.push_back(Special(token));
    }
  }
  static json Special(const ConfigNode& token) {
    json entry = Entry(token, /*special=*/true);
    entry["special"] = true;
    return entry;
  }

  std::map<std::string, json> entries_;  // by role
  std::vector<std::string> others_;
  std::vector<json> nameless_;
};

int64_t TokenId(const std::string& key, const ConfigNode& token) {
  if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != key.npos) {
    token.Fail("is not under a token id");
  }
  return std::stoll(key);
}

}  // namespace

ConfigTokens ConfigTokens::Read(const std::string& model_dir) {
  const ConfigFile config(model_dir, "tokenizer_config.json");
  const ConfigFile map(model_dir, "special_tokens_map.json");
  const ConfigFile added(model_dir, "added_tokens.json");
  const bool has_list = config.root().Has("added_tokens_decoder");
  ConfigTokens tokens;
  tokens.listed_yields = !has_list;
  NamedTokens named;
  named.ReadRoles(config);
  if (!has_list) named.ReadRoles(map);
  named.WriteTo(&tokens);

  std::map<int64_t, json> by_id;
  if (has_list) {
    for (const auto& [key, token] : config.root().At("added_tokens_decoder").Object()) {
      by_id[TokenId(key, token)] = Entry(token, /*special=*/false);
    }
  } else {
    for (const auto& [content, id] : added.root().Object()) {
      const bool special = std::any_of(tokens.named.begin(), tokens.named.end(),
                                       [&](const json& t) { return t["content"] == content; });
      by_id[id.Int()] = {{"content", content}, {"special", special}, {"normalized", !special}};
    }
  }
  for (auto& [id, entry] : by_id) {
    entry["id"] = id;
    tokens.listed.push_back(std::move(entry));
  }
  return tokens;
}

void ConfigTokens::AppendTo(json* added_tokens) const {
  const auto has = [&](const char* key, const json& value) {
    return std::any_of(added_tokens->begin(), added_tokens->end(),
                       [&](const json& token) { return token.value(key, json()) == value; });
  };
  json missing = json::array();
  for (const json& token : listed) {
    if (!listed_yields || !has("id", token["id"])) missing.push_back(token);
  }
  for (const json& token : missing) added_tokens->push_back(token);
  for (const json& token : named) {
    if (!has("content", token["content"])) added_tokens->push_back(token);
  }
}

}  // namespace liger::trainer
