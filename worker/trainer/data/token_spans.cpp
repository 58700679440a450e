#include "worker/trainer/data/token_spans.h"

#include <algorithm>
#include <array>
#include <string>

#include "worker/trainer/text/byte_alphabet.h"

namespace liger::trainer {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// What a token of SentencePiece writes into a text.
std::string WrittenPiece(const std::string& token) {
  if (token.size() == 6 && token.starts_with("<0x") && token.back() == '>') {
    const std::string digits = token.substr(3, 2);
    if (digits.find_first_not_of("0123456789ABCDEF") == digits.npos) {
      return std::string(1, static_cast<char>(std::stoi(digits, nullptr, 16)));
    }
  }
  std::string text;
  for (size_t i = 0; i < token.size();) {
    const bool is_space = token.compare(i, kSpace.size(), kSpace) == 0;
    text += is_space ? ' ' : token[i];
    i += is_space ? kSpace.size() : 1;
  }
  return text;
}

std::string WrittenBytes(const std::string& token) {
  std::string text;
  AppendAlphabetBytes(token, &text);
  return text;
}

size_t SkipSpaces(std::string_view text, size_t at) {
  return std::min(text.find_first_not_of(" \t\r\n\v\f", at), text.size());
}

size_t CharacterEnd(std::string_view text, size_t at) {
  size_t end = std::min(at + 1, text.size());
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
  return end;
}

class Aligner {
 public:
  using Written = std::string (*)(const std::string& token);

  Aligner(const Tokenizer& tokenizer, std::string_view text, const std::vector<int32_t>& ids,
          Written written)
      : tokenizer_(tokenizer), text_(text), ids_(ids), written_(written) {}

  std::optional<std::vector<TokenSpan>> Run() {
    while (spans_.size() < ids_.size()) {
      if (tokenizer_.IsAdded(ids_[spans_.size()]) ? !Added() : !Between()) return std::nullopt;
    }
    if (LastTakesSpaces()) spans_.back().end = SkipSpaces(text_, at_);
    return std::move(spans_);
  }

 private:
  std::string TokenOf(size_t i) const { return tokenizer_.IdToToken(ids_[i]).value_or(""); }

  bool LastTakesSpaces() const {
    return !spans_.empty() && tokenizer_.TakesSpacesBehind(ids_[spans_.size() - 1]);
  }

  // Where the added token `i` begins that comes next at `at`, spaces before it apart; npos: not so.
  size_t AddedAt(size_t i, size_t at) const {
    const std::string content = TokenOf(i);
    for (const size_t begin : {at, SkipSpaces(text_, at)}) {
      if (text_.substr(begin).starts_with(content)) return begin;
    }
    return std::string_view::npos;
  }

  bool Added() {
    const size_t begin = AddedAt(spans_.size(), at_);
    if (begin == std::string_view::npos) return false;
    const size_t end = begin + TokenOf(spans_.size()).size();
    if (begin > at_ && LastTakesSpaces()) spans_.back().end = at_ = begin;
    spans_.push_back({at_, end});
    at_ = end;
    return true;
  }

  // Whether what follows a segment stands at `at`.
  bool GoesOn(size_t next, size_t at) const {
    return next == ids_.size() ? at == text_.size() : AddedAt(next, at) != std::string_view::npos;
  }

  // The tokens up to the next added one.
  bool Between() {
    std::string all;
    std::vector<size_t> sizes;
    size_t next = spans_.size();
    for (; next < ids_.size() && !tokenizer_.IsAdded(ids_[next]); ++next) {
      const std::string written = written_(TokenOf(next));
      all += written;
      sizes.push_back(written.size());
    }
    // The spaces are those of the added token before, if it takes any; else that one may begin with
    // spaces, or this segment.
    const size_t behind = SkipSpaces(text_, at_);
    for (const size_t begin :
         LastTakesSpaces() ? std::array{behind, at_} : std::array{at_, behind}) {
      for (const size_t left_out : {size_t{0}, size_t{1}}) {
        if (left_out == 1 && !all.starts_with(' ')) continue;
        const std::string_view own = std::string_view(all).substr(left_out);
        if (!text_.substr(begin).starts_with(own) || !GoesOn(next, begin + own.size())) continue;
        if (!spans_.empty()) spans_.back().end = std::max(spans_.back().end, begin);
        at_ = begin;
        sizes[0] -= left_out;
        for (const size_t size : sizes) Take(size);
        return true;
      }
    }
    return false;
  }

  void Take(size_t size) {
    const size_t end = size == 0 ? CharacterEnd(text_, at_) : at_ + size;
    spans_.push_back({at_, end});
    at_ += size;
  }

  const Tokenizer& tokenizer_;
  const std::string_view text_;
  const std::vector<int32_t>& ids_;
  const Written written_;
  std::vector<TokenSpan> spans_;
  size_t at_ = 0;
};

}  // namespace

std::optional<std::vector<TokenSpan>> PieceSpans(const Tokenizer& tokenizer, std::string_view text,
                                                 const std::vector<int32_t>& ids) {
  for (const Aligner::Written written : {&WrittenPiece, &WrittenBytes}) {
    if (auto spans = Aligner(tokenizer, text, ids, written).Run()) return spans;
  }
  return std::nullopt;
}

}  // namespace liger::trainer
