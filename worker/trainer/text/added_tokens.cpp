#include "worker/trainer/text/added_tokens.h"

#include <algorithm>

#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

bool StartsWithWord(std::string_view text) {
  const char* p = text.data();
  return !text.empty() && unicode::IsWord(unicode::NextCodePoint(p));
}

bool EndsWithWord(std::string_view text) {
  const char* p = text.data() + text.size();
  return !text.empty() && unicode::IsWord(unicode::PreviousCodePoint(p));
}

// Where the spaces that end just before `at` begin.
size_t SpacesBefore(std::string_view text, size_t at) {
  const char* p = text.data() + at;
  while (p > text.data()) {
    const char* previous = p;
    if (!unicode::IsSpace(unicode::PreviousCodePoint(previous))) break;
    p = previous;
  }
  return p - text.data();
}

// Where the spaces that begin at `at` end.
size_t SpacesAfter(std::string_view text, size_t at) {
  const char* p = text.data() + at;
  const char* const end = text.data() + text.size();
  while (p < end) {
    const char* next = p;
    if (!unicode::IsSpace(unicode::NextCodePoint(next))) break;
    p = next;
  }
  return p - text.data();
}

}  // namespace

void TokenTrie::Add(std::string_view token, int32_t value) {
  uint32_t node = 0;
  for (const char c : token) {
    const auto [it, added] = edges_.try_emplace(node << 8 | static_cast<unsigned char>(c),
                                                static_cast<uint32_t>(values_.size()));
    if (added) values_.push_back(-1);
    node = it->second;
  }
  values_[node] = value;
  starts_[static_cast<unsigned char>(token[0])] = true;
}

std::optional<TokenTrie::Match> TokenTrie::MatchAt(std::string_view text, size_t at) const {
  std::optional<Match> longest;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto it = edges_.find(node << 8 | static_cast<unsigned char>(text[i]));
    if (it == edges_.end()) break;
    node = it->second;
    if (values_[node] >= 0) longest = Match{values_[node], i + 1 - at};
  }
  return longest;
}

std::optional<TokenTrie::Match> TokenTrie::FindNext(std::string_view text, size_t* at) const {
  for (; *at < text.size(); ++*at) {
    if (!starts_[static_cast<unsigned char>(text[*at])]) continue;
    if (const std::optional<Match> match = MatchAt(text, *at)) return match;
  }
  return std::nullopt;
}

AddedTokens::AddedTokens(const ConfigNode& node, const Vocabulary& model,
                         const Normalizer* normalizer) {
  int32_t next_id = static_cast<int32_t>(model.size());
  for (const ConfigNode& token : node.Array()) Add(token, model, normalizer, &next_id);
  for (const int32_t id : order_) {
    const Token& token = tokens_.at(id);
    (token.is_normalized ? normalized_ : raw_).Add(token.normalized, id);
    max_id_ = std::max(max_id_, id);
    num_new_ += model.Find(token.content) ? 0 : 1;
  }
}

void AddedTokens::Add(const ConfigNode& node, const Vocabulary& model, const Normalizer* normalizer,
                      int32_t* next_id) {
  std::string content = node.String("content");
  if (content.empty()) return;
  std::optional<int32_t> id = Find(content);
  if (!id) id = model.Find(content);
  if (!id) id = (*next_id)++;

  const bool special = node.Bool("special", false);
  const bool normalized = node.Bool("normalized", !special);
  Token token{content,
              content,
              normalized,
              node.Bool("single_word", false),
              node.Bool("lstrip", false),
              node.Bool("rstrip", false)};
  if (normalized && normalizer != nullptr) token.normalized = normalizer->Normalize(content);
  if (token.normalized.empty()) {
    node.Fail("is a token of which the normalizer leaves nothing, and which would match everywhere",
              "Set its \"normalized\" to false.");
  }
  if (!tokens_.contains(*id)) order_.push_back(*id);
  if (special) special_.insert(content);
  ids_[content] = *id;
  tokens_[*id] = std::move(token);
}

std::vector<AddedTokens::Part> AddedTokens::Split(std::string_view text,
                                                  const TokenTrie& trie) const {
  std::vector<Part> parts;
  size_t done = 0, at = 0;
  while (const std::optional<TokenTrie::Match> match = trie.FindNext(text, &at)) {
    const Token& token = tokens_.at(match->value);
    size_t begin = at, end = at + match->length;
    at = end;
    if (token.single_word &&
        (EndsWithWord(text.substr(0, begin)) || StartsWithWord(text.substr(end)))) {
      continue;
    }
    if (token.lstrip) begin = std::max(SpacesBefore(text, begin), done);
    if (token.rstrip) end = SpacesAfter(text, end);
    if (done < begin) parts.push_back({text.substr(done, begin - done), -1});
    // Of two tokens for one run of spaces the second may get none, and then falls away (with lstrip
    // alone `tokenizers` fails there); without lstrip it stands twice, as there.
    if (begin < end) parts.push_back({text.substr(begin, end - begin), match->value});
    done = std::max(begin, end);
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
  return parts;
}

std::optional<int32_t> AddedTokens::Find(std::string_view token) const {
  const auto it = ids_.find(token);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

const std::string* AddedTokens::Content(int32_t id) const {
  const auto it = tokens_.find(id);
  return it == tokens_.end() ? nullptr : &it->second.content;
}

bool AddedTokens::TakesSpacesBehind(int32_t id) const {
  const auto it = tokens_.find(id);
  return it != tokens_.end() && it->second.rstrip;
}

const std::string* AddedTokens::DecodedContent(int32_t id) const {
  const auto it = tokens_.find(id);
  return it == tokens_.end() ? nullptr : &it->second.normalized;
}

}  // namespace liger::trainer
