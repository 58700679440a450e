#ifndef LIGER_WORKER_TRAINER_TEXT_SPLIT_BEHAVIOR_H_
#define LIGER_WORKER_TRAINER_TEXT_SPLIT_BEHAVIOR_H_

#include <vector>

#include "worker/trainer/text/config_node.h"
#include "worker/trainer/text/pattern.h"

namespace liger::trainer {

// What becomes of the delimiters that a pre-tokenizer cuts at.
enum class SplitBehavior {
  kRemoved,
  kIsolated,            // "a-b" -> "a", "-", "b"
  kMergedWithPrevious,  // "a-b" -> "a-", "b"
  kMergedWithNext,      // "a-b" -> "a", "-b"
  kContiguous,          // isolated, neighbouring delimiters together
};

SplitBehavior ParseSplitBehavior(const ConfigNode& node);

// Joins or drops the spans, which cover a text, as the behavior says.
// Afterwards `is_match` has no meaning.
void ApplyBehavior(SplitBehavior behavior, std::vector<MatchSpan>* spans);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_TEXT_SPLIT_BEHAVIOR_H_
