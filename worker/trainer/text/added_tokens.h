#ifndef LIGER_WORKER_TRAINER_TEXT_ADDED_TOKENS_H_
#define LIGER_WORKER_TRAINER_TEXT_ADDED_TOKENS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "worker/trainer/text/config_node.h"
#include "worker/trainer/text/normalizer.h"
#include "worker/trainer/text/string_map.h"
#include "worker/trainer/text/vocabulary.h"

namespace liger::trainer {

// Finds the longest of a set of strings that starts at a place in a text.
class TokenTrie {
 public:
  // `value` must not be negative. The last of equal strings wins.
  void Add(std::string_view token, int32_t value);
  bool empty() const { return edges_.empty(); }

  // Moves *at forward to the leftmost longest match of `text` from *at on and
  // returns its value and length; nullopt when there is none.
  struct Match {
    int32_t value;
    size_t length;
  };
  std::optional<Match> FindNext(std::string_view text, size_t* at) const;

 private:
  std::optional<Match> MatchAt(std::string_view text, size_t at) const;

  absl::flat_hash_map<uint32_t, uint32_t> edges_;  // node << 8 | byte -> node
  std::vector<int32_t> values_ = {-1};             // by node; 0 is the root
  bool starts_[256] = {};
};

// tokenizer.json's "added_tokens": tokens that are cut out of a text before
// the model sees it.
class AddedTokens {
 public:
  // Ids come from `model` where it has the token, else they follow the largest
  // so far: like `tokenizers`, which does not take them from the file. Of entries
  // with the same text the last one's flags count, but special once is special.
  // `normalizer` may be null.
  AddedTokens(const ConfigNode& node, const Vocabulary& model, const Normalizer* normalizer);

  // A part of a text: an added token, or text in between (id -1).
  struct Part {
    std::string_view text;
    int32_t id;
  };
  // Cuts at the tokens that match the text as written (normalized: false).
  std::vector<Part> SplitRaw(std::string_view text) const { return Split(text, raw_); }
  // Cuts at the tokens that match the text after the normalizer.
  std::vector<Part> SplitNormalized(std::string_view text) const {
    return Split(text, normalized_);
  }

  std::optional<int32_t> Find(std::string_view token) const;
  // The token's text; null when `id` is not an added token.
  const std::string* Content(int32_t id) const;
  // What decoding sees of it: the normalized form.
  const std::string* DecodedContent(int32_t id) const;
  bool TakesSpacesBehind(int32_t id) const;
  bool IsSpecial(std::string_view token) const { return special_.contains(token); }

  // Tokens that the model does not have, and the largest id of all.
  int64_t num_new() const { return num_new_; }
  int32_t max_id() const { return max_id_; }

 private:
  struct Token {
    std::string content, normalized;
    bool is_normalized, single_word, lstrip, rstrip;
  };
  void Add(const ConfigNode& node, const Vocabulary& model, const Normalizer* normalizer,
           int32_t* next_id);
  std::vector<Part> Split(std::string_view text, const TokenTrie& trie) const;

  StringMap<int32_t> ids_;
  absl::flat_hash_map<int32_t, Token> tokens_;
  std::vector<int32_t> order_;  // of tokens_, as the list has them
  StringSet special_;
  TokenTrie raw_, normalized_;
  int64_t num_new_ = 0;
  int32_t max_id_ = -1;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_ADDED_TOKENS_H_
