#ifndef LIGER_WORKER_TRAINER_TEXT_CODE_POINT_SET_H_
#define LIGER_WORKER_TRAINER_TEXT_CODE_POINT_SET_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/trainer/text/unicode.h"

namespace liger::trainer {

// A set of code points, surrogates never among them: ascending runs that do not touch.
class CodePointSet {
 public:
  struct Run {
    char32_t first, last;
    bool operator==(const Run&) const = default;
  };

  CodePointSet() = default;
  static CodePointSet Of(char32_t first, char32_t last);
  // Those of the categories whose bits (1 << Category) are set.
  static CodePointSet OfCategories(uint32_t mask);

  CodePointSet operator|(const CodePointSet& other) const;
  CodePointSet operator&(const CodePointSet& other) const;
  CodePointSet operator~() const;
  CodePointSet operator-(const CodePointSet& other) const { return *this & ~other; }
  // Those in one of the two.
  CodePointSet operator^(const CodePointSet& other) const;

  bool Has(char32_t c) const;
  bool Includes(const CodePointSet& other) const { return (other - *this).empty(); }
  bool empty() const { return runs_.empty(); }
  const std::vector<Run>& runs() const { return runs_; }

 private:
  explicit CodePointSet(std::vector<Run> runs) : runs_(std::move(runs)) {}
  std::vector<Run> runs_;
};

// What the regular expressions of `tokenizers` (Oniguruma) mean by a name in \p{...}: a general
// category, a script or a property, whatever its case and its spaces, hyphens and underscores;
// nullopt for one that is not known here.
std::optional<CodePointSet> FindCharacterProperty(std::string_view name);

// One of the sets of unicode_sets.inc that are not named so in files: "\\w", "\\s", "[:punct:]",
// and what pre-tokenizers cut at, "!punctuation", "!digits", "!space".
// REQUIRES: that it is there.
const CodePointSet& BuiltInSet(std::string_view name);

// The inside of a PCRE2 bracket class with just these members: by general categories where that is
// shorter, with the code points that PCRE2 may be too old to know.
std::string PcreClassOf(const CodePointSet& set);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_CODE_POINT_SET_H_
