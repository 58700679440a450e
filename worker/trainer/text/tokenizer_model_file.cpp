#include "worker/trainer/text/tokenizer_model_file.h"

#include <filesystem>
#include <map>

#include "worker/trainer/json_file.h"
#include "worker/trainer/text/config_node.h"
#include "worker/trainer/text/sentencepiece_file.h"
#include "worker/trainer/text/tiktoken_file.h"

namespace liger::trainer {
namespace {

using nlohmann::json;

// A SentencePiece model begins with the tag of its first piece. It is a line
// feed, which no file of tiktoken's begins with.
constexpr char kFirstPiece = 0x0A;

// added_tokens_decoder's tokens by id; {"32000": {...}}.
std::map<int64_t, json> DecoderTokens(const ConfigNode& config) {
  std::map<int64_t, json> by_id;
  if (!config.Has("added_tokens_decoder")) return by_id;
  for (const auto& [key, token] : config.At("added_tokens_decoder").Object()) {
    if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != key.npos) {
      token.Fail("is not under a token id");
    }
    by_id[std::stoll(key)] = token.json();
  }
  return by_id;
}

// Their contents.
std::map<int64_t, std::string> NamesOf(const std::map<int64_t, json>& tokens,
                                       const std::string& path) {
  std::map<int64_t, std::string> names;
  for (const auto& [id, token] : tokens) {
    names[id] =
        ConfigNode(token, path, "added_tokens_decoder." + std::to_string(id)).String("content");
  }
  return names;
}

json ObjectOf(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? ReadJsonObject(path.string()) : json::object();
}

// Llama 3 itself, as the folder tells: 3.1 and later scale their rope. A folder with nothing
// about the model counts as later.
bool IsLlama30(const std::filesystem::path& dir) {
  const json config = ObjectOf(dir / "config.json");
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json rope = config.value(key, json());
    const auto scaled = [&](const char* type) { return rope.value(type, json()) == "llama3"; };
    if (rope.is_object() && (scaled("rope_type") || scaled("type"))) return false;
  }
  if (!config.empty()) return true;
  const json params = ObjectOf(dir / "params.json");  // Meta's
  return !params.empty() && params.value("use_scaled_rope", json()) != true;
}

// What transformers 5's LlamaTokenizer makes of these keys; other classes have their own ways.
SpacePrefix PrefixOf(const ConfigNode& config) {
  const std::string type = config.Has("tokenizer_class") ? config.String("tokenizer_class") : "";
  if (!type.empty() && !type.starts_with("LlamaTokenizer")) return SpacePrefix::kEach;
  if (!config.Bool("add_prefix_space", true)) return SpacePrefix::kNever;
  return config.Bool("legacy", true) ? SpacePrefix::kEach : SpacePrefix::kFirst;
}

// Appends the tokens behind those that the model has.
void AppendAddedTokens(const std::map<int64_t, json>& by_id, const std::string& path,
                       TokenizerFile* file) {
  const Vocabulary& vocabulary = file->model->vocabulary();
  json& added = file->config["added_tokens"];
  // Ids follow the vocabulary in the order of the list (AddedTokens).
  std::map<std::string, int64_t> known;
  int64_t next = vocabulary.size();
  for (const json& token : added) {
    known[token["content"]] = token["id"];
    next = std::max(next, token["id"].get<int64_t>() + 1);
  }
  for (const auto& [id, token] : by_id) {
    const ConfigNode node(token, path, "added_tokens_decoder." + std::to_string(id));
    const std::string content = node.String("content");
    const std::optional<int32_t> in_model = vocabulary.Find(content);
    const auto it = known.find(content);
    const int64_t expected = it != known.end() ? it->second : in_model ? *in_model : next++;
    if (id != expected) node.Fail("is the token that tokenizer.model gives another id");
    added.push_back(token);
  }
}

// The template of one sequence: [BOS] A [EOS].
json Framing(const FramingTokens& tokens, const ConfigNode& config) {
  json single = json::array(), special = json::object();
  const auto add = [&](int32_t id, const char* name) {
    single.push_back({{"SpecialToken", {{"id", name}}}});
    special[name]["ids"] = json::array({id});
  };
  if (tokens.bos_id >= 0 && config.Bool("add_bos_token", true)) add(tokens.bos_id, "bos");
  single.push_back({{"Sequence", {{"id", "A"}}}});
  if (tokens.eos_id >= 0 && config.Bool("add_eos_token", false)) add(tokens.eos_id, "eos");
  return pipeline::Component("TemplateProcessing",
                             {{"single", single}, {"special_tokens", special}});
}

json Roles(const FramingTokens& tokens, const TokenizerFile& file) {
  json roles = json::object();
  for (const json& token : file.config["added_tokens"]) {
    if (token["id"] == tokens.bos_id) roles["bos_token"] = token["content"];
    if (token["id"] == tokens.eos_id) roles["eos_token"] = token["content"];
  }
  return roles;
}

}  // namespace

namespace pipeline {

json Component(const char* type, json fields) {
  fields["type"] = type;
  return fields;
}

json Sequence(const char* steps_key, std::vector<json> steps) {
  return Component("Sequence", {{steps_key, std::move(steps)}});
}

json AddedToken(int32_t id, const std::string& content, bool special) {
  return {{"id", id}, {"content", content}, {"special", special}, {"normalized", !special}};
}

}  // namespace pipeline

TokenizerFile ReadTokenizerModelFile(const std::string& model_dir) {
  const std::filesystem::path dir(model_dir);
  const std::string path = (dir / "tokenizer.model").string();
  const std::string bytes = ReadTextFile(path);
  const std::string config_path = (dir / "tokenizer_config.json").string();
  const json config = ObjectOf(config_path);
  const ConfigNode node(config, config_path, "");
  const std::map<int64_t, json> decoder = DecoderTokens(node);
  ModelFileContents contents =
      bytes.starts_with(kFirstPiece)
          ? ReadSentencePiece(bytes, path, PrefixOf(node))
          : ReadTiktoken(bytes, path, IsLlama30(dir), NamesOf(decoder, config_path));
  contents.file.roles = Roles(contents.framing, contents.file);
  contents.file.config["post_processor"] = Framing(contents.framing, node);
  AppendAddedTokens(decoder, config_path, &contents.file);
  return std::move(contents.file);
}

void AddModelFileRoles(const std::string& model_dir, nlohmann::ordered_json* special_tokens) {
  const std::filesystem::path dir(model_dir);
  const bool named = special_tokens->contains("bos_token") && special_tokens->contains("eos_token");
  if (named || std::filesystem::exists(dir / "tokenizer.json") ||
      !std::filesystem::exists(dir / "tokenizer.model")) {
    return;
  }
  const TokenizerFile file = ReadTokenizerModelFile(model_dir);
  for (const auto& [role, token] : file.roles.items()) {
    if (!special_tokens->contains(role)) (*special_tokens)[role] = token;
  }
}

}  // namespace liger::trainer
