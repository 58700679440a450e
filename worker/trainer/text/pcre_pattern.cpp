#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <string>

#include "worker/trainer/text/pattern.h"
#include "worker/trainer/text/regex_translator.h"
#include "worker/trainer/text/unicode.h"

namespace liger::trainer {
namespace {

// Bounds the work of one match, so that a malign pattern fails and does not hang.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr size_t kMaxPatternBytes = 64 << 10;

struct FreeCode {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct FreeCompileContext {
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
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
    const std::string translated = TranslateRegex(regex, node);
    int error = 0;
    PCRE2_SIZE offset = 0;
    // Oniguruma's ^ and $ are always line anchors, and its lines end with a line feed.
    const std::unique_ptr<pcre2_compile_context, FreeCompileContext> compiling(
        pcre2_compile_context_create(nullptr));
    pcre2_set_newline(compiling.get(), PCRE2_NEWLINE_LF);
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset,
                              compiling.get()));
    if (!code_) {
      node.Fail("is not a regular expression that PCRE2 takes: " + ErrorText(error) + " at byte " +
                std::to_string(offset) + " of " + translated);
    }
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // without JIT it is interpreted
    context_.reset(pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(context_.get(), kMatchLimit);
  }

  void Find(std::string_view text, std::vector<MatchSpan>* spans) const override {
    if (text.empty()) return;  // where `tokenizers` does not look, even for an empty match
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
