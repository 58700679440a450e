// The tokenizer.ggml.* keys as tokenizer files.
#include <algorithm>
#include <cctype>
#include <limits>
#include <unordered_map>

#include "liger/sentencepiece/model.pb.h"
#include "worker/trainer/chat_template_files.h"
#include "worker/trainer/gguf/folder_files.h"

namespace liger::trainer {
namespace {

using nlohmann::ordered_json;

const std::string kPrefix = "tokenizer.ggml.";

// Numbers of token_type: SentencePiece's.
enum TokenType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

ordered_json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

ordered_json Sequence(ordered_json first, ordered_json second) {
  return {{"type", "Sequence"},
          {"pretokenizers", ordered_json::array({std::move(first), std::move(second)})}};
}

ordered_json Split(const char* regex) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

// What the models' own tokenizer.json files say for the names that llama.cpp gives
// them (tokenizer.ggml.pre).
struct PreTokenizer {
  const char* name;
  ordered_json (*pre_tokenizer)();
  bool ignore_merges = false;
  bool add_bos = false;
};

ordered_json Gpt2() { return ByteLevel(true); }

ordered_json SmolLm() {
  return Sequence({{"type", "Digits"}, {"individual_digits", true}}, ByteLevel(true));
}

ordered_json Llama3() {
  return Sequence(Split("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"),
                  ByteLevel(false));
}

constexpr PreTokenizer kPreTokenizers[] = {
    {"gpt-2", Gpt2},
    {"smollm", SmolLm},
    {"llama-bpe", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"llama3", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
    {"llama-v3", Llama3, /*ignore_merges=*/true, /*add_bos=*/true},
};

class TokenizerBuilder {
 public:
  explicit TokenizerBuilder(const GgufFile& file)
      : file_(file),
        tokens_(file.Strings(kPrefix + "tokens")),
        types_(file.Integers(kPrefix + "token_type")) {
    if (tokens_.empty()) Fail("tokens", "is missing or empty");
    if (tokens_.size() > size_t{1} << 24) Fail("tokens", "has too many tokens");
    if (types_.empty()) types_.assign(tokens_.size(), kNormal);
    if (types_.size() != tokens_.size()) Fail("token_type", "is not as long as tokens");
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (tokens_[id].empty()) Fail("tokens", "is empty at " + std::to_string(id));
      if (!ids_.emplace(tokens_[id], id).second) {
        Fail("tokens", "has '" + tokens_[id] + "' twice, at " + std::to_string(id));
      }
    }
  }

  std::map<std::string, std::string> Build() {
    std::map<std::string, std::string> files;
    const std::string model = file_.String(kPrefix + "model").value_or("");
    if (model == "gpt2") {
      files["tokenizer.json"] = ByteLevelBpe().dump() + "\n";
    } else if (model == "llama") {
      files["tokenizer.model"] = SentencePiece();
    } else {
      Fail("model", "is '" + model +
                        "'; gpt2 and llama are implemented, for others give "
                        "--tokenizer a folder with the model's tokenizer files");
    }
    files["tokenizer_config.json"] = TokenizerConfig(model).dump(2) + "\n";
    if (const auto chat = file_.String("tokenizer.chat_template")) {
      files[kChatTemplateFile] = *chat;
    }
    for (const std::string& name : file_.Strings("tokenizer.chat_templates")) AddNamed(name, files);
    return files;
  }

 private:
  [[noreturn]] void Fail(const std::string& key, const std::string& what) const {
    file_.FailAt(kPrefix + key, what);
  }

  // One of several chat templates.
  void AddNamed(const std::string& name, std::map<std::string, std::string>& files) const {
    const std::string key = "tokenizer.chat_template." + name;
    const bool plain =
        !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
          return std::isalnum(c) || c == '_' || c == '-';
        });
    if (!plain) {
      file_.FailAt("tokenizer.chat_templates", "names '" + name + "', which is no file name");
    }
    const auto chat = file_.String(key);
    if (!chat) file_.FailAt(key, "is missing");
    files[std::string(kChatTemplatesFolder) + "/" + name + ".jinja"] = *chat;
  }

  // The token of a role ("bos"); nullopt when the file names none.
  std::optional<std::string> Role(const std::string& role) const {
    const std::string key = role + "_token_id";
    const auto id = file_.Integer(kPrefix + key);
    if (!id) return std::nullopt;
    if (*id >= static_cast<int64_t>(tokens_.size())) Fail(key, "is no token");
    return tokens_[*id];
  }

  bool Flag(const std::string& key, bool absent) const {
    return file_.Bool(kPrefix + key).value_or(absent);
  }

  const PreTokenizer& FindPreTokenizer() const {
    const std::string name = file_.String(kPrefix + "pre").value_or("");
    std::string known;
    for (const PreTokenizer& entry : kPreTokenizers) {
      if (name == entry.name) return entry;
      known += (known.empty() ? "" : ", ") + std::string(entry.name);
    }
    Fail("pre", "is '" + name + "'; known are " + known +
                    ", for others give --tokenizer a folder with the model's tokenizer files");
  }

  ordered_json ByteLevelBpe() const {
    const PreTokenizer& pre = FindPreTokenizer();
    ordered_json vocab = ordered_json::object();
    // Straight into the object: its operator[] looks through all keys.
    auto& entries = vocab.get_ref<ordered_json::object_t&>();
    entries.reserve(tokens_.size());
    for (size_t id = 0; id < tokens_.size(); ++id) {
      static_cast<std::vector<std::pair<const std::string, ordered_json>>&>(entries).emplace_back(
          tokens_[id], id);
    }
    ordered_json decoder = ByteLevel(true);
    decoder["add_prefix_space"] = true;
    return {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"added_tokens", AddedTokens()},
            {"normalizer", nullptr},
            {"pre_tokenizer", pre.pre_tokenizer()},
            {"post_processor", Framing(pre.add_bos)},
            {"decoder", decoder},
            {"model",
             {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", nullptr},
              {"continuing_subword_prefix", nullptr},
              {"end_of_word_suffix", nullptr},
              {"fuse_unk", false},
              {"byte_fallback", false},
              {"ignore_merges", pre.ignore_merges},
              {"vocab", std::move(vocab)},
              {"merges", Merges()}}}};
  }

  ordered_json AddedTokens() const {
    ordered_json added = ordered_json::array();
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (types_[id] != kControl && types_[id] != kUserDefined) continue;
      added.push_back({{"id", id},
                       {"content", tokens_[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", types_[id] == kControl}});
    }
    return added;
  }

  ordered_json Merges() const {
    ordered_json merges = ordered_json::array();
    for (const std::string& line : file_.Strings(kPrefix + "merges")) {
      const size_t space = line.find(' ', 1);
      const std::string left = line.substr(0, space);
      const std::string right = space == line.npos ? "" : line.substr(space + 1);
      if (right.empty() || !ids_.contains(left) || !ids_.contains(right) ||
          !ids_.contains(left + right)) {
        Fail("merges", "has '" + line + "' at " + std::to_string(merges.size()) +
                           ", which is no pair of tokens that make a third");
      }
      merges.push_back({left, right});
    }
    if (merges.empty()) Fail("merges", "is missing or empty");
    return merges;
  }

  // [BOS] A [EOS], as the file says.
  ordered_json Framing(bool add_bos) const {
    ordered_json single = ordered_json::array(), special = ordered_json::object();
    const auto add = [&](const char* role) {
      const auto token = Role(role);
      if (!token) return;
      single.push_back({{"SpecialToken", {{"id", *token}, {"type_id", 0}}}});
      special[*token] = {{"id", *token},
                         {"ids", ordered_json::array({ids_.at(*token)})},
                         {"tokens", ordered_json::array({*token})}};
    };
    if (Flag("add_bos_token", add_bos)) add("bos");
    single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    if (Flag("add_eos_token", false)) add("eos");
    if (special.empty()) return nullptr;
    ordered_json pair = single;
    pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
    return {{"type", "TemplateProcessing"},
            {"single", single},
            {"pair", pair},
            {"special_tokens", special}};
  }

  std::string SentencePiece() const {
    const std::vector<float> scores = file_.Floats(kPrefix + "scores");
    if (scores.size() != tokens_.size()) Fail("scores", "is not as long as tokens");
    sentencepiece::Model model;
    bool has_bytes = false;
    for (size_t id = 0; id < tokens_.size(); ++id) {
      sentencepiece::Piece* piece = model.add_pieces();
      piece->set_piece(tokens_[id]);
      piece->set_score(scores[id]);
      if (types_[id] < kNormal || types_[id] > kByte) {
        Fail("token_type", "is " + std::to_string(types_[id]) + " at " + std::to_string(id));
      }
      piece->set_type(static_cast<sentencepiece::Piece::Type>(types_[id]));
      has_bytes |= types_[id] == kByte;
    }
    auto* trainer = model.mutable_trainer_spec();
    trainer->set_model_type(sentencepiece::TrainerSpec::BPE);
    trainer->set_byte_fallback(has_bytes);
    trainer->set_unk_id(IdOf("unknown", 0));
    trainer->set_bos_id(IdOf("bos", 1));
    trainer->set_eos_id(IdOf("eos", 2));
    auto* normalizer = model.mutable_normalizer_spec();
    normalizer->set_add_dummy_prefix(Flag("add_space_prefix", true));
    normalizer->set_remove_extra_whitespaces(false);
    normalizer->set_escape_whitespaces(true);
    return model.SerializeAsString();
  }

  int32_t IdOf(const std::string& role, int32_t absent) const {
    const auto token = Role(role);
    return token ? static_cast<int32_t>(ids_.at(*token)) : absent;
  }

  ordered_json TokenizerConfig(const std::string& model) const {
    ordered_json config = {{"clean_up_tokenization_spaces", false}};
    for (const auto& [name, role] :
         {std::pair("bos_token", "bos"), std::pair("eos_token", "eos"),
          std::pair("pad_token", "padding"), std::pair("unk_token", "unknown")}) {
      if (const auto token = Role(role)) config[name] = *token;
    }
    if (model == "llama") {
      config["add_bos_token"] = Flag("add_bos_token", true);
      config["add_eos_token"] = Flag("add_eos_token", false);
    }
    config["tokenizer_class"] = model == "llama" ? "LlamaTokenizer" : "PreTrainedTokenizerFast";
    return config;
  }

  const GgufFile& file_;
  const std::vector<std::string> tokens_;
  std::vector<int64_t> types_;
  std::unordered_map<std::string, size_t> ids_;
};

}  // namespace

std::map<std::string, std::string> GgufTokenizerFiles(const GgufFile& file) {
  return TokenizerBuilder(file).Build();
}

}  // namespace liger::trainer
