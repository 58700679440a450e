#include "worker/trainer/text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "worker/trainer/text/byte_alphabet.h"
#include "worker/trainer/text/growth.h"
#include "worker/trainer/text/pattern.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

using Ptr = std::unique_ptr<Normalizer>;

// Code points that utf8proc decomposes or reorders (newer combining marks) and
// `tokenizers`, with its older Unicode, does not. There all are starters that
// compose with nothing, so that a text can be cut at them.
constexpr char32_t kLate[] = {
#include "worker/trainer/text/unicode_late.inc"
};

// NFC, NFD, NFKC and NFKD.
class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(int options) : options_(options) {}

  std::string Normalize(std::string text) const override {
    if (IsAscii(text)) return text;
    std::string out;
    size_t done = 0;
    for (const char *p = text.data(), *end = p + text.size(); p < end;) {
      const size_t at = p - text.data();
      const char32_t c = unicode::NextCodePoint(p);
      if (!std::binary_search(std::begin(kLate), std::end(kLate), c)) continue;
      Map(std::string_view(text).substr(done, at - done), &out);
      unicode::AppendUtf8(c, &out);
      done = p - text.data();
    }
    Map(std::string_view(text).substr(done), &out);
    return out;
  }

 private:
  static bool IsAscii(const std::string& text) {
    for (const char c : text) {
      if (static_cast<unsigned char>(c) >= 0x80) return false;
    }
    return true;
  }

  void Map(std::string_view text, std::string* out) const {
    if (text.empty()) return;
    utf8proc_uint8_t* mapped = nullptr;
    const utf8proc_ssize_t size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                     static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                     static_cast<utf8proc_option_t>(UTF8PROC_STABLE | options_));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
    if (size < 0) throw DataError(std::string("cannot normalize: ") + utf8proc_errmsg(size));
    out->append(reinterpret_cast<const char*>(mapped), size);
  }

  const int options_;
};

template <int options>
Ptr MakeUnicodeForm(const ConfigNode&) {
  return std::make_unique<UnicodeForm>(options);
}

// Every step-th code point of [first, last] has a lower case so far behind it.
struct LowerRun {
  char32_t first, last;
  int step, distance;
};
constexpr LowerRun kLowerRuns[] = {
#include "worker/trainer/text/unicode_lower.inc"
};

// A table and not utf8proc's, which may be of another Unicode version than `tokenizers`.
char32_t LowerOf(char32_t c) {
  const auto run = std::partition_point(std::begin(kLowerRuns), std::end(kLowerRuns),
                                        [c](const LowerRun& r) { return r.last < c; });
  if (run == std::end(kLowerRuns) || c < run->first) return c;
  return (c - run->first) % run->step == 0 ? c + run->distance : c;
}

class Lowercase : public Normalizer {
 public:
  std::string Normalize(std::string text) const override {
    std::string out;
    for (const char *p = text.data(), *end = p + text.size(); p < end;) {
      const char32_t c = unicode::NextCodePoint(p);
      // U+0130 is the one character whose full lower case is two.
      if (c == 0x130) {
        out += "i\xCC\x87";
      } else {
        unicode::AppendUtf8(LowerOf(c), &out);
      }
    }
    return out;
  }
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  std::string Normalize(std::string text) const override {
    const char* begin = text.data();
    const char* end = begin + text.size();
    while (left_ && begin < end) {
      const char* next = begin;
      if (!unicode::IsSpace(unicode::NextCodePoint(next))) break;
      begin = next;
    }
    while (right_ && begin < end) {
      const char* last = end;
      if (!unicode::IsSpace(unicode::PreviousCodePoint(last))) break;
      end = last;
    }
    return std::string(begin, end);
  }

 private:
  const bool left_, right_;
};

class Replace : public Normalizer {
 public:
  Replace(std::unique_ptr<Pattern> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  std::string Normalize(std::string text) const override {
    std::vector<MatchSpan> spans;
    pattern_->Find(text, &spans);
    std::string out;
    for (const MatchSpan& span : spans) {
      span.is_match ? out.append(content_) : out.append(text, span.begin, span.end - span.begin);
      RequireBoundedGrowth(text.size(), out.size());
    }
    return out;
  }

 private:
  const std::unique_ptr<Pattern> pattern_;
  const std::string content_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string Normalize(std::string text) const override {
    return text.empty() ? text : prefix_ + text;
  }

 private:
  const std::string prefix_;
};

class ByteLevel : public Normalizer {
 public:
  std::string Normalize(std::string text) const override {
    std::string out(2 * text.size(), '\0');
    out.resize(BytesToAlphabet(text, out.data()) - out.data());
    return out;
  }
};

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<Ptr> steps) : steps_(std::move(steps)) {}
  std::string Normalize(std::string text) const override {
    const size_t before = text.size();
    for (const Ptr& step : steps_) {
      text = step->Normalize(std::move(text));
      RequireBoundedGrowth(before, text.size());
    }
    return text;
  }

 private:
  const std::vector<Ptr> steps_;
};

Ptr MakeSequence(const ConfigNode& node) {
  std::vector<Ptr> steps;
  for (const ConfigNode& step : node.At("normalizers").Array()) {
    steps.push_back(MakeNormalizer(step));
  }
  return std::make_unique<Sequence>(std::move(steps));
}

constexpr ComponentEntry<Ptr> kTable[] = {
    {"NFC", MakeUnicodeForm<UTF8PROC_COMPOSE>},
    {"NFD", MakeUnicodeForm<UTF8PROC_DECOMPOSE>},
    {"NFKC", MakeUnicodeForm<UTF8PROC_COMPOSE | UTF8PROC_COMPAT>},
    {"NFKD", MakeUnicodeForm<UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT>},
    {"Lowercase", [](const ConfigNode&) -> Ptr { return std::make_unique<Lowercase>(); }},
    {"Strip",
     [](const ConfigNode& n) -> Ptr {
       return std::make_unique<Strip>(n.Bool("strip_left", true), n.Bool("strip_right", true));
     }},
    {"Replace",
     [](const ConfigNode& n) -> Ptr {
       return std::make_unique<Replace>(MakePattern(n.At("pattern")), n.String("content"));
     }},
    {"Prepend",
     [](const ConfigNode& n) -> Ptr { return std::make_unique<Prepend>(n.String("prepend")); }},
    {"ByteLevel", [](const ConfigNode&) -> Ptr { return std::make_unique<ByteLevel>(); }},
    {"Sequence", MakeSequence},
};

}  // namespace

Ptr MakeNormalizer(const ConfigNode& node) { return MakeComponent(kTable, "normalizer", node); }

}  // namespace liger::trainer
