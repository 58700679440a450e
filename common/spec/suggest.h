#ifndef LIGER_COMMON_SPEC_SUGGEST_H_
#define LIGER_COMMON_SPEC_SUGGEST_H_

#include <string>
#include <string_view>
#include <vector>

namespace liger {

// The candidate nearest to a misspelt word by edit distance, or "" when none is
// near enough (more than a third of the word would have to change).
std::string NearestName(std::string_view word, const std::vector<std::string>& candidates);

// "; did you mean 'x'?" or "".
std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_SUGGEST_H_
