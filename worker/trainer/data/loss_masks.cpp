#include "worker/trainer/data/loss_masks.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string>

#include "worker/trainer/data/text_prefix.h"
#include "worker/trainer/data/token_spans.h"

namespace liger::trainer {
namespace {

// Tokens [begin, end) of a row.
using Span = std::pair<size_t, size_t>;

// `spans` rise and do not overlap.
void KeepOnly(const std::vector<Span>& spans, Example* example) {
  const auto labels = example->labels.begin();
  size_t done = 0;
  for (const auto& [begin, end] : spans) {
    if (begin > done) std::fill(labels + done, labels + begin, kIgnoredLabel);
    done = std::max(done, end);
  }
  std::fill(labels + done, example->labels.end(), kIgnoredLabel);
}

// Where `wanted` begins in `ids`, at or after `from`; ids.size(): nowhere.
size_t Find(const std::vector<int32_t>& ids, const std::vector<int32_t>& wanted, size_t from) {
  return std::search(ids.begin() + from, ids.end(), wanted.begin(), wanted.end()) - ids.begin();
}

// The start of the last character of text[0, end).
size_t LastCharacter(std::string_view text, size_t end) {
  size_t start = end - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  return start;
}

// The end of the span without the characters at its end of which there is no token, as the
// vocabulary lacks their bytes.
size_t EndOfTokens(const Tokenizer& tokenizer, std::string_view text, size_t begin, size_t end) {
  const auto written = [&](size_t size) {
    return tokenizer.Decode(tokenizer.Encode(text.substr(0, size), false), false);
  };
  while (end > begin && written(LastCharacter(text, end)) == written(end)) {
    end = LastCharacter(text, end);
  }
  return end;
}

// The tokens of what the chat's spans hold.
std::vector<Span> GeneratedTokens(const Tokenizer& tokenizer, const RenderedChat& chat,
                                  const std::vector<int32_t>& ids) {
  const std::optional<std::vector<TokenSpan>> pieces = PieceSpans(tokenizer, chat.text, ids);
  const auto token_at = [&](size_t position) {
    if (!pieces) return TokenAt(tokenizer, chat.text, ids, position);
    const auto token = std::find_if(pieces->begin(), pieces->end(),
                                    [=](const TokenSpan& span) { return position < span.end; });
    return static_cast<size_t>(token - pieces->begin());
  };
  std::vector<Span> spans;
  for (const auto& [begin, block_end] : chat.generation_spans) {
    const size_t end = pieces ? block_end : EndOfTokens(tokenizer, chat.text, begin, block_end);
    if (begin == end) continue;
    const size_t first = token_at(begin);
    const size_t last = token_at(LastCharacter(chat.text, end));
    spans.emplace_back(std::min(first, ids.size()), std::min(last + 1, ids.size()));
  }
  return spans;
}

}  // namespace

size_t TokenAt(const Tokenizer& tokenizer, std::string_view text, const std::vector<int32_t>& ids,
               size_t position) {
  // What the text before `position` has in common with the whole cannot lie behind it.
  const std::vector<int32_t> before = tokenizer.Encode(text.substr(0, position), false);
  size_t token =
      std::mismatch(ids.begin(), ids.end(), before.begin(), before.end()).first - ids.begin();
  // The end of the text before may be cut otherwise than there: go on to the token that reaches
  // beyond it. By the decoded texts, since a normalizer or a vocabulary without some bytes gives
  // others than the row's.
  const std::string whole = tokenizer.Decode(ids, false);
  const size_t at = tokenizer.Decode(before, false).size();
  size_t written = CommonPrefix(tokenizer.Decode(std::span(ids).first(token), false), whole);
  for (; token < ids.size(); ++token) {
    const std::string decoded = tokenizer.Decode(std::span(ids).first(token + 1), false);
    // Less than is decoded, where the token ends within a character.
    const size_t shared = CommonPrefix(decoded, whole);
    if (shared > at || (written == at && decoded.size() > shared)) break;
    written = std::max(written, shared);
  }
  return token;
}

void KeepGenerated(const Tokenizer& tokenizer, const RenderedChat& chat, Example* example) {
  KeepOnly(GeneratedTokens(tokenizer, chat, example->input_ids.vector()), example);
}

void IgnoreGenerated(const Tokenizer& tokenizer, const RenderedChat& chat, Example* example) {
  if (chat.generation_spans.empty()) return;
  for (const auto& [begin, end] : GeneratedTokens(tokenizer, chat, example->input_ids.vector())) {
    std::fill(example->labels.begin() + begin, example->labels.begin() + end, kIgnoredLabel);
  }
}

bool KeepResponses(const std::vector<int32_t>& response_template,
                   const std::vector<int32_t>& instruction_template, Example* example) {
  const std::vector<int32_t>& ids = example->input_ids.vector();
  std::vector<Span> spans;
  for (size_t at = Find(ids, response_template, 0); at < ids.size();) {
    const size_t begin = at + response_template.size();
    const size_t end =
        instruction_template.empty() ? ids.size() : Find(ids, instruction_template, begin);
    if (instruction_template.empty()) spans.clear();  // the last one counts
    spans.emplace_back(begin, end);
    at = Find(ids, response_template, instruction_template.empty() ? at + 1 : end);
  }
  KeepOnly(spans, example);
  return !spans.empty();
}

}  // namespace liger::trainer
