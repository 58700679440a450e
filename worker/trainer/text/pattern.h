#ifndef LIGER_WORKER_TRAINER_TEXT_PATTERN_H_
#define LIGER_WORKER_TRAINER_TEXT_PATTERN_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/trainer/text/config_node.h"

namespace liger::trainer {

// A half-open byte range of a text, and whether the pattern matched it.
struct MatchSpan {
  size_t begin;
  size_t end;
  bool is_match;
};

// What Split and Replace search for. Immutable and thread-safe.
class Pattern {
 public:
  virtual ~Pattern() = default;

  // Appends spans that cover `text` (valid UTF-8) from left to right.
  virtual void Find(std::string_view text, std::vector<MatchSpan>* spans) const = 0;
};

// From {"String": s} or {"Regex": r}. The regular expressions that GPT-2,
// Llama 3 and Qwen2 split with get hand-written scanners, any other goes to
// PCRE2, in Oniguruma's dialect, which is what `tokenizers` reads.
std::unique_ptr<Pattern> MakePattern(const ConfigNode& node);

// For tests: never a hand-written scanner.
std::unique_ptr<Pattern> MakePcrePattern(const std::string& regex, const ConfigNode& node);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_PATTERN_H_
