#include "tests/e2e/tiny_model.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/file.h"

namespace liger::e2e {
namespace {

using nlohmann::json;

constexpr int kEndOfText = 256;
constexpr int kVocabSize = 264;

void Write(const std::string& path, const std::string& content) {
  ASSERT_TRUE(WriteFileAtomically(path, content).ok()) << path;
}

std::string Utf8(int code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

// GPT-2's printable stand-ins: printable Latin-1 is itself, the rest follows
// from U+0100 on.
json ByteVocabulary() {
  json vocabulary = json::object();
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
                           (byte >= 0xAE && byte <= 0xFF);
    vocabulary[Utf8(printable ? byte : next++)] = byte;
  }
  return vocabulary;
}

json ByteLevel() {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", true}};
}

json Tokenizer() {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens",
           {{{"id", kEndOfText},
             {"content", "<|endoftext|>"},
             {"single_word", false},
             {"lstrip", false},
             {"rstrip", false},
             {"normalized", false},
             {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", ByteLevel()},
          {"post_processor", nullptr},
          {"decoder", ByteLevel()},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", ByteVocabulary()},
            {"merges", json::array()}}}};
}

json Config(int hidden_size) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", kVocabSize},
          {"hidden_size", hidden_size},
          {"intermediate_size", 2 * hidden_size},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"max_position_embeddings", 512},
          {"hidden_act", "silu"},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"initializer_range", 0.02},
          {"tie_word_embeddings", true},
          {"attention_bias", false},
          {"mlp_bias", false},
          {"bos_token_id", kEndOfText},
          {"eos_token_id", kEndOfText},
          {"torch_dtype", "float32"}};
}

}  // namespace

void WriteTinyModel(const std::string& dir, int hidden_size) {
  ASSERT_TRUE(MakeFolders(dir).ok());
  Write(dir + "/config.json", Config(hidden_size).dump(1));
  Write(dir + "/tokenizer.json", Tokenizer().dump(1));
  const json tokenizer_config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                 {"bos_token", "<|endoftext|>"},
                                 {"eos_token", "<|endoftext|>"},
                                 {"pad_token", "<|endoftext|>"}};
  Write(dir + "/tokenizer_config.json", tokenizer_config.dump(1));
}

void WriteTinyDataset(const std::string& path, int rows, int bad_row, const std::string& bad_line) {
  std::string lines;
  for (int row = 1; row <= rows; ++row) {
    if (row == bad_row) {
      absl::StrAppend(&lines, bad_line, "\n");
      continue;
    }
    const json object = {{"prompt", absl::StrCat("What is ", row, " plus one?")},
                         {"completion", absl::StrCat(" It is ", row + 1, ".")}};
    absl::StrAppend(&lines, object.dump(), "\n");
  }
  Write(path, lines);
}

}  // namespace liger::e2e
