#include "worker/trainer/text/tiktoken_file.h"

#include <charconv>

#include "absl/strings/escaping.h"
#include "worker/trainer/error.h"
#include "worker/trainer/text/bpe.h"
#include "worker/trainer/text/byte_alphabet.h"

namespace liger::trainer {
namespace {

using nlohmann::json;
using pipeline::AddedToken;
using pipeline::Component;
using pipeline::Sequence;

constexpr const char* kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr int32_t kBos = 0, kEos = 1;  // places in the list below
constexpr int kSpecialTokens = 256;
// "" is the next <|reserved_special_token_N|>, as are those behind the lists.
using SpecialNames = std::vector<std::string>;

SpecialNames NumberReserved(SpecialNames names) {
  names.resize(kSpecialTokens);
  int reserved = 0;
  for (std::string& name : names) {
    if (name.empty()) name = "<|reserved_special_token_" + std::to_string(reserved++) + "|>";
  }
  return names;
}

SpecialNames Llama30Names() {
  return NumberReserved({"<|begin_of_text|>", "<|end_of_text|>", "", "", "", "",
                         "<|start_header_id|>", "<|end_header_id|>", "", "<|eot_id|>"});
}

SpecialNames Llama31Names() {
  return NumberReserved({"<|begin_of_text|>", "<|end_of_text|>", "", "",
                         "<|finetune_right_pad_id|>", "", "<|start_header_id|>",
                         "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"});
}

class TiktokenReader {
 public:
  TiktokenReader(const std::string& text, std::string path, bool llama30,
                 const std::map<int64_t, std::string>& given)
      : text_(text), path_(std::move(path)), llama30_(llama30), given_(given) {}

  ModelFileContents Read() {
    config_.ignore_merges = true;
    ReadRanks();
    // In the order of ids, once all tokens are known.
    for (int32_t rank = 0; rank < num_ranks_; ++rank) {
      const std::string token = *config_.vocabulary.Token(rank);
      config_.AddSplits(token, rank);
    }
    ModelFileContents contents;
    contents.file.path = path_;
    contents.file.config = Pipeline();
    contents.file.model = std::make_unique<BpeModel>(std::move(config_));
    contents.framing = {num_ranks_ + kBos, num_ranks_ + kEos};
    return contents;
  }

 private:
  [[noreturn]] void FailLine(const std::string& what) const {
    throw ConfigError(path_ + ", line " + std::to_string(line_) + ": " + what +
                          "; a line is a token in base64, a space and its rank",
                      "Copy it again from the model's original; it may be truncated or another "
                      "format.")
        .File(path_);
  }

  void ReadRanks() {
    size_t done = 0;
    while (done < text_.size()) {
      ++line_;
      const size_t end = std::min(text_.find('\n', done), text_.size());
      std::string_view line(text_.data() + done, end - done);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!line.empty()) ReadRank(line);
      done = end + 1;
    }
    if (num_ranks_ == 0) FailLine("there is no token");
  }

  void ReadRank(std::string_view line) {
    const size_t space = line.find(' ');
    std::string bytes;
    int32_t rank = -1;
    if (space == std::string_view::npos ||
        !absl::Base64Unescape(absl::string_view(line.data(), space), &bytes) || bytes.empty()) {
      FailLine("has no token in base64");
    }
    const char* const end = line.data() + line.size();
    const auto number = std::from_chars(line.data() + space + 1, end, rank);
    if (number.ec != std::errc() || number.ptr != end || rank != num_ranks_) {
      FailLine("has not the rank " + std::to_string(num_ranks_) + ", the next one");
    }
    if (bytes.size() > BpeConfig::kMaxSplitBytes / 2) FailLine("has a token that is too long");
    if (rank >= Vocabulary::kMaxId - kSpecialTokens) FailLine("is one token too many");
    std::string token(2 * bytes.size(), '\0');
    token.resize(BytesToAlphabet(bytes, token.data()) - token.data());
    if (config_.vocabulary.Find(token)) FailLine("has a token that an earlier line has");
    config_.vocabulary.Add(token, num_ranks_++);
  }

  SpecialNames Names() const {
    const SpecialNames old = Llama30Names(), now = Llama31Names();
    int old_agrees = 0, now_agrees = 0;
    const auto each = [&](auto use) {
      for (const auto& [id, name] : given_) {
        const int64_t place = id - num_ranks_;
        if (place >= 0 && place < kSpecialTokens) use(static_cast<size_t>(place), name);
      }
    };
    each([&](size_t place, const std::string& name) {
      old_agrees += name == old[place];
      now_agrees += name == now[place];
    });
    const bool is_old = old_agrees == now_agrees ? llama30_ : old_agrees > now_agrees;
    SpecialNames names = is_old ? old : now;
    each([&](size_t place, const std::string& name) { names[place] = name; });
    return names;
  }

  json Pipeline() const {
    json added = json::array();
    int32_t id = num_ranks_;
    for (const std::string& name : Names()) added.push_back(AddedToken(id++, name, true));
    return {
        {"added_tokens", added},
        {"pre_tokenizer",
         Sequence("pretokenizers",
                  {Component("Split",
                             {{"pattern", {{"Regex", kLlama3Split}}}, {"behavior", "Isolated"}}),
                   Component("ByteLevel", {{"add_prefix_space", false}, {"use_regex", false}})})},
        {"decoder", Component("ByteLevel")}};
  }

  const std::string& text_;
  const std::string path_;
  const bool llama30_;
  const std::map<int64_t, std::string>& given_;
  BpeConfig config_;
  int32_t num_ranks_ = 0;
  int64_t line_ = 0;
};

}  // namespace

ModelFileContents ReadTiktoken(const std::string& text, const std::string& path, bool llama30,
                               const std::map<int64_t, std::string>& given) {
  return TiktokenReader(text, path, llama30, given).Read();
}

}  // namespace liger::trainer
