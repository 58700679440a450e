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

// Of a text that holds several values with commas between them, which one of a list's may not be:
// "; several are written as a list: [a, b]"; of others "".
std::string SeveralAsList(std::string_view text);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_SUGGEST_H_
