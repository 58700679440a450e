#include "common/spec/row_counts.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/plural.h"

namespace liger {

int64_t CountOf(const RowCounts& counts, const std::string& name) {
  const auto found = counts.find(name);
  return found == counts.end() ? 0 : found->second;
}

std::string DescribeRows(const RowCounts& counts, const std::string& prefix) {
  const auto count = [&](const std::string& name) { return CountOf(counts, prefix + name); };
  std::string text = Plural(count("rows"), "row");
  if (const int64_t pairs = count("pairs"); pairs > 0) {
    absl::StrAppend(&text, " (two of each of ", Plural(pairs, "pair"), ")");
  }
  if (const int64_t packs = count("packs"); packs > 0) {
    absl::StrAppend(&text, " in ", Plural(packs, "pack"));
  }
  absl::StrAppend(&text, ", ", count("dropped_rows"), " dropped, ", count("truncated_rows"),
                  " cut to max_length");
  if (const int64_t prompts = count("cut_prompts"); prompts > 0) {
    absl::StrAppend(&text, " (", prompts, " with less than half of the prompt left");
    if (const int64_t lost = count("lost_prompts"); lost > 0) {
      absl::StrAppend(&text, ", ", lost, " of them with none of it");
    }
    absl::StrAppend(&text, ")");
  }
  if (const int64_t equal = count("equal_pairs"); equal > 0) {
    absl::StrAppend(&text, ", ", Plural(equal, "pair"), " of equal answers");
  }
  for (const auto& [name, lacks] :
       {std::pair("empty_answers", "answer"), {"empty_prompts", "prompt"}}) {
    if (count(name) > 0) absl::StrAppend(&text, ", ", count(name), " with no ", lacks);
  }
  return absl::StrCat(text, "; ", Plural(count("tokens"), "token"), ", ", count("target_tokens"),
                      " of them trained on");
}

}  // namespace liger
