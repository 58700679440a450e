#ifndef LIGER_WORKER_TRAINER_TEXT_REGEX_SOURCE_H_
#define LIGER_WORKER_TRAINER_TEXT_REGEX_SOURCE_H_

#include <optional>
#include <string>
#include <string_view>

#include "worker/trainer/text/code_point_set.h"
#include "worker/trainer/text/config_node.h"

namespace liger::trainer {

// A regular expression of Oniguruma's dialect that is read from left to right, and the parts of it
// that mean the same inside and outside of bracket classes.
class RegexSource {
 public:
  RegexSource(const std::string& regex, const ConfigNode& node) : regex_(regex), node_(node) {}

  bool done() const { return at_ >= regex_.size(); }
  bool Next(std::string_view text) const { return regex_.compare(at_, text.size(), text) == 0; }
  // The byte `ahead` behind the next one; 0 behind the end.
  char Peek(size_t ahead = 0) const {
    return at_ + ahead < regex_.size() ? regex_[at_ + ahead] : '\0';
  }
  void Skip(size_t bytes) { at_ += bytes; }
  // Skips `text` if it comes next.
  bool Accept(std::string_view text);
  char32_t TakeChar();
  // All up to `end`, which is skipped; refuses `what` where there is no end.
  std::string TakeUntil(std::string_view end, const char* what);

  // Behind a backslash: \w \d \s \h \p{...} and their opposites; nullopt, with nothing read, for
  // other escapes. Oniguruma's \w has six more characters outside of a bracket class.
  std::optional<CodePointSet> TakeClassEscape(bool in_bracket);
  // Behind a backslash: one character. Refuses what is none.
  char32_t TakeCharEscape(bool in_bracket);
  // From behind the [ to behind the ].
  CodePointSet TakeBracketClass(bool ignore_case, int depth = 0);

  [[noreturn]] void Refuse(const std::string& what) const;

 private:
  char32_t TakeHex(size_t most);
  CodePointSet TakeProperty(bool opposite);
  CodePointSet TakePosixClass();
  // One character of a bracket class, or an escape for several.
  CodePointSet TakeBracketItem(bool* is_char, char32_t* c);

  const std::string& regex_;
  const ConfigNode& node_;
  size_t at_ = 0;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_REGEX_SOURCE_H_
