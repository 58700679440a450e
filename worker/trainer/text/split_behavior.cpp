#include "worker/trainer/text/split_behavior.h"

#include <algorithm>

namespace liger::trainer {
namespace {

// Joins a span to the one before it when join(is_match, previous_is_match).
template <typename Join>
void JoinForward(std::vector<MatchSpan>* spans, Join join) {
  std::vector<MatchSpan> out;
  bool previous = false;
  for (const MatchSpan& span : *spans) {
    if (!out.empty() && join(span.is_match, previous)) {
      out.back().end = span.end;
    } else {
      out.push_back(span);
    }
    previous = span.is_match;
  }
  spans->swap(out);
}

void MergeWithNext(std::vector<MatchSpan>* spans) {
  std::vector<MatchSpan> out;
  bool following = false;
  for (auto it = spans->rbegin(); it != spans->rend(); ++it) {
    if (!out.empty() && it->is_match && !following) {
      out.back().begin = it->begin;
    } else {
      out.push_back(*it);
    }
    following = it->is_match;
  }
  std::reverse(out.begin(), out.end());
  spans->swap(out);
}

}  // namespace

SplitBehavior ParseSplitBehavior(const ConfigNode& node) {
  const std::string name = node.String();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  node.FailUnknownType("split behavior",
                       "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

void ApplyBehavior(SplitBehavior behavior, std::vector<MatchSpan>* spans) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kRemoved:
      std::erase_if(*spans, [](const MatchSpan& span) { return span.is_match; });
      break;
    case SplitBehavior::kMergedWithPrevious:
      JoinForward(spans, [](bool is_match, bool previous) { return is_match && !previous; });
      break;
    case SplitBehavior::kContiguous:
      JoinForward(spans, [](bool is_match, bool previous) { return is_match == previous; });
      break;
    case SplitBehavior::kMergedWithNext:
      MergeWithNext(spans);
      break;
  }
}

}  // namespace liger::trainer
