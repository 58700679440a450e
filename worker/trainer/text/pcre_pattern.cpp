#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "worker/trainer/text/pattern.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

// Bounds the work of one match, so that a malign pattern fails and does not hang.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr size_t kMaxPatternBytes = 64 << 10;

// Oniguruma's meaning of a class escape, as the inside of a PCRE2 class; null
// where the two agree. (PCRE2's own \s takes in U+180E, its \w lacks marks.)
const char* ClassOfEscape(char escape) {
  switch (escape) {
    case 's':
      return R"(\x09-\x0D\x20\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
    case 'w':
      return R"(\p{L}\p{M}\p{Nd}\p{Pc})";
    case 'h':
      return "0-9a-fA-F";
    default:
      return nullptr;
  }
}

// Rewrites a regular expression from Oniguruma's dialect to PCRE2's, and
// refuses by name what would mean something else there.
class DialectTranslator {
 public:
  DialectTranslator(const std::string& regex, const ConfigNode& node)
      : regex_(regex), node_(node) {}

  std::string Translate() {
    while (at_ < regex_.size()) {
      const char c = regex_[at_];
      if (c == '\\') {
        Escape();
      } else if (in_class_) {
        InClass(c);
      } else {
        if (c == '[') OpenClass();
        out_ += c;
        ++at_;
        if (in_class_ && at_ < regex_.size() && regex_[at_] == '^') out_ += regex_[at_++];
      }
    }
    return out_;
  }

 private:
  void OpenClass() { in_class_ = true; }

  void InClass(char c) {
    if (c == '[' && regex_.compare(at_, 2, "[:") != 0) Refuse("a class inside a class");
    if (regex_.compare(at_, 2, "&&") == 0) Refuse("the class intersection &&");
    if (c == '[') {  // a POSIX class: copy to its end
      const size_t close = regex_.find(":]", at_);
      if (close == std::string::npos) Refuse("an open POSIX class");
      out_.append(regex_, at_, close + 2 - at_);
      at_ = close + 2;
      return;
    }
    if (c == ']') in_class_ = false;
    out_ += c;
    ++at_;
  }

  void Escape() {
    if (at_ + 1 >= regex_.size()) Refuse("a backslash at its end");
    const char c = regex_[at_ + 1];
    at_ += 2;
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    const char* members = ClassOfEscape(lower);
    if (members == nullptr) {
      if (!in_class_ && lower == 'b') Refuse(std::string("\\") + c);
      out_ += '\\';
      out_ += c;
    } else if (!in_class_) {
      out_ += std::string(c == lower ? "[" : "[^") + members + "]";
    } else if (c == lower) {
      out_ += members;
    } else {
      Refuse(std::string("\\") + c + " inside a class");
    }
  }

  [[noreturn]] void Refuse(const std::string& what) const {
    node_.Fail("has " + what + " at character " + std::to_string(at_ + 1) +
               ", which is not implemented");
  }

  const std::string& regex_;
  const ConfigNode& node_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

// Code points that are newer than PCRE2's Unicode tables, each with an older
// one of the same general category and UTF-8 length that stands for it.
struct StandIn {
  char32_t first, last, instead;
};
constexpr StandIn kStandIns[] = {
#include "worker/trainer/text/unicode_stand_ins.inc"
};

const StandIn* FindStandIn(char32_t c) {
  const StandIn* it = std::upper_bound(std::begin(kStandIns), std::end(kStandIns), c,
                                       [](char32_t x, const StandIn& s) { return x < s.first; });
  if (it == std::begin(kStandIns)) return nullptr;
  --it;
  return c <= it->last ? it : nullptr;
}

// `text`, or, when it has characters that PCRE2 does not know, a copy in
// *storage with their stand-ins: same offsets, same classes.
std::string_view WithStandIns(std::string_view text, std::string* storage) {
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    if (static_cast<unsigned char>(*p) < 0x80) {
      ++p;
      continue;
    }
    const size_t at = p - text.data();
    const StandIn* found = FindStandIn(unicode::NextCodePoint(p));
    if (found == nullptr) continue;
    if (storage->empty()) storage->assign(text);
    std::string bytes;
    unicode::AppendUtf8(found->instead, &bytes);
    storage->replace(at, bytes.size(), bytes);
  }
  return storage->empty() ? text : std::string_view(*storage);
}

struct FreeCode {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct FreeContext {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

class PcrePattern : public Pattern {
 public:
  PcrePattern(const std::string& regex, const ConfigNode& node) {
    if (regex.size() > kMaxPatternBytes) node.Fail("is longer than 64 KiB");
    const std::string translated = DialectTranslator(regex, node).Translate();
    int error = 0;
    PCRE2_SIZE offset = 0;
    // Oniguruma's ^ and $ are always line anchors.
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, nullptr));
    if (!code_) {
      node.Fail("is not a regular expression that PCRE2 takes: " + ErrorText(error) + " at byte " +
                std::to_string(offset) + " of " + translated);
    }
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // without JIT it is interpreted
    context_.reset(pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(context_.get(), kMatchLimit);
  }

  void Find(std::string_view original, std::vector<MatchSpan>* spans) const override {
    std::string storage;
    const std::string_view text = WithStandIns(original, &storage);
    const std::unique_ptr<pcre2_match_data, FreeMatch> match(
        pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    size_t done = 0, from = 0;
    bool matched_before = false;
    while (from <= text.size() && Search(text, from, match.get())) {
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
      const size_t begin = range[0], end = range[1];
      if (begin == end && matched_before && begin == done) {
        // An empty match right after a match does not count: step over one character.
        from += from < text.size() ? unicode::Utf8Length(text[from]) : 1;
        continue;
      }
      if (begin > done) spans->push_back({done, begin, false});
      spans->push_back({begin, end, true});
      done = from = end;
      matched_before = true;
    }
    if (done < text.size()) spans->push_back({done, text.size(), false});
  }

 private:
  bool Search(std::string_view text, size_t from, pcre2_match_data* match) const {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int rc = pcre2_match(code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK, match,
                         context_.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       match, context_.get());
    }
    if (rc == PCRE2_ERROR_NOMATCH) return false;
    if (rc < 0) throw DataError("the tokenizer's regular expression failed: " + ErrorText(rc));
    return true;
  }

  std::unique_ptr<pcre2_code, FreeCode> code_;
  std::unique_ptr<pcre2_match_context, FreeContext> context_;
};

}  // namespace

std::unique_ptr<Pattern> MakePcrePattern(const std::string& regex, const ConfigNode& node) {
  return std::make_unique<PcrePattern>(regex, node);
}

}  // namespace liger::trainer
