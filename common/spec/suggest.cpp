#include "common/spec/suggest.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace liger {
namespace {

// Letters to insert, remove, replace, or swap with the next (optimal string
// alignment), one row at a time.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> above2, above, row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    above2 = std::move(above);
    above = row;
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      row[j + 1] = std::min({above[j] + (a[i] != b[j]), row[j] + 1, above[j + 1] + 1});
      const bool swapped = i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j];
      if (swapped) row[j + 1] = std::min(row[j + 1], above2[j - 1] + 1);
    }
  }
  return row.back();
}

// Whether all of at least two words are among the candidate's, in their order: num_epochs of
// num_train_epochs.
bool IsShortFor(std::string_view word, std::string_view candidate) {
  const std::vector<std::string> words = absl::StrSplit(std::string(word), '_');
  const std::vector<std::string> all = absl::StrSplit(std::string(candidate), '_');
  size_t found = 0;
  for (const std::string& one : all) found += found < words.size() && one == words[found];
  return words.size() > 1 && found == words.size();
}

}  // namespace

std::string NearestName(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string lower = absl::AsciiStrToLower(std::string(word));
  std::string best;
  size_t best_distance = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(lower, absl::AsciiStrToLower(candidate));
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  if (!best.empty()) return best;
  const auto longer =
      std::find_if(candidates.begin(), candidates.end(),
                   [&](const auto& candidate) { return IsShortFor(lower, candidate); });
  return longer == candidates.end() ? "" : *longer;
}

std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string nearest = NearestName(word, candidates);
  return nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?");
}

std::string SeveralAsList(std::string_view text) {
  std::vector<std::string> values = absl::StrSplit(std::string(text), ',', absl::SkipWhitespace());
  if (values.size() < 2) return "";
  for (std::string& value : values) absl::StripAsciiWhitespace(&value);
  return absl::StrCat("; several are written as a list: [", absl::StrJoin(values, ", "), "]");
}

}  // namespace liger
