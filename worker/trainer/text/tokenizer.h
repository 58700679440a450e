#ifndef LIGER_WORKER_TRAINER_TEXT_TOKENIZER_H_
#define LIGER_WORKER_TRAINER_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace liger::trainer {

class TrainerError;

// A Hugging Face tokenizer, read from tokenizer.json. It gives the ids that the
// PyPI package `tokenizers` gives for the same file and text. A folder without
// one may have a tokenizer.model of SentencePiece or tiktoken, which comes to
// the same pipeline (tokenizer_model_file.h).
//
// The pipeline is normalizer -> added tokens -> pre-tokenizer -> model ->
// post-processor, and a decoder for the way back; each is one small class made
// by the factory table of its kind (normalizer.h, pre_tokenizer.h, bpe.h,
// post_processor.h, decoder.h). Truncation and padding of the file are not
// applied: like transformers, the caller decides them per call.
//
// Immutable after construction; every const method may be called from many
// threads at once.
class Tokenizer {
 public:
  // Reads MODEL_DIR/tokenizer.json, else tokenizer.model, and
  // MODEL_DIR/tokenizer_config.json, special_tokens_map.json and
  // added_tokens.json, where they exist, for the special tokens' roles and for
  // added tokens (special_tokens.h). tokenizer_config.json's add_bos_token
  // and add_eos_token are applied beside a tokenizer.model only: beside a
  // tokenizer.json transformers 5 ignores them too, and the post-processor
  // decides.
  // Throws TrainerError naming the file, the place in it and the feature when
  // the file is missing, malformed, or asks for what is not implemented.
  static std::unique_ptr<Tokenizer> FromFolder(const std::string& model_dir);

  // One that knows no token: to encode any text throws `problem`.
  static std::unique_ptr<Tokenizer> Absent(const TrainerError& problem);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The ids of `text`, with the post-processor's special tokens (such as BOS)
  // when add_special_tokens. Special tokens written in the text itself are
  // recognised in both cases. Bytes that are not UTF-8 count as U+FFFD.
  std::vector<int32_t> Encode(std::string_view text, bool add_special_tokens) const;

  // The text of `ids`; ids that the tokenizer does not know are skipped.
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  std::optional<int32_t> TokenToId(std::string_view token) const;
  std::optional<std::string> IdToToken(int32_t id) const;

  // Whether `id` is an added token, which is cut out of a text before all else, and whether it
  // takes the spaces behind it along.
  bool IsAdded(int32_t id) const;
  bool TakesSpacesBehind(int32_t id) const;

  // Roles as tokenizer_config.json (or special_tokens_map.json) names them.
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;
  std::optional<int32_t> unk_id() const;

  // Number of distinct tokens, added tokens included. The largest id plus one
  // can be larger; a model's vocab_size is at least max_id() + 1.
  int64_t vocab_size() const;
  int32_t max_id() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_TOKENIZER_H_
