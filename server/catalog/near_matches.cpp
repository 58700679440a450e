#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "common/spec/suggest.h"
#include "server/catalog/catalog.h"

namespace liger::server {

std::vector<std::string> NearMatches(absl::string_view name,
                                     const std::vector<std::string>& candidates) {
  constexpr size_t kMost = 3;
  const std::string word = absl::AsciiStrToLower(name);
  std::vector<std::string> near;
  std::vector<std::string> left = candidates;
  while (near.size() < kMost) {
    const std::string nearest = NearestName(word, left);
    if (nearest.empty()) break;
    near.push_back(nearest);
    left.erase(std::find(left.begin(), left.end(), nearest));
  }
  // "llama3" is far from "llama3-8b" by edits, and plainly meant.
  for (const std::string& candidate : left) {
    if (near.size() == kMost) break;
    const bool inside = absl::StrContains(candidate, word) || absl::StrContains(word, candidate);
    if (!word.empty() && inside) near.push_back(candidate);
  }
  return near;
}

}  // namespace liger::server
