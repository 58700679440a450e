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
constexpr const char* kLlama3Special[] = {"<|begin_of_text|>",
                                          "<|end_of_text|>",
                                          "<|reserved_special_token_0|>",
                                          "<|reserved_special_token_1|>",
                                          "<|finetune_right_pad_id|>",
                                          "<|reserved_special_token_2|>",
                                          "<|start_header_id|>",
                                          "<|end_header_id|>",
                                          "<|eom_id|>",
                                          "<|eot_id|>",
                                          "<|python_tag|>"};

class TiktokenReader {
 public:
  TiktokenReader(const std::string& text, std::string path) : text_(text), path_(std::move(path)) {}

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

  json Pipeline() const {
    json added = json::array();
    int reserved = 3;  // the next that the list above does not name
    for (int i = 0; i < kSpecialTokens; ++i) {
      const bool named = i < static_cast<int>(std::size(kLlama3Special));
      added.push_back(
          AddedToken(num_ranks_ + i,
                     named ? kLlama3Special[i]
                           : "<|reserved_special_token_" + std::to_string(reserved++) + "|>",
                     true));
    }
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
  BpeConfig config_;
  int32_t num_ranks_ = 0;
  int64_t line_ = 0;
};

}  // namespace

ModelFileContents ReadTiktoken(const std::string& text, const std::string& path) {
  return TiktokenReader(text, path).Read();
}

}  // namespace liger::trainer
