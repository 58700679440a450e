#include "tests/unit/objectives/random_rows.h"

#include <random>

namespace liger::trainer {

ExampleSet MakeRandomRows(RowKind kind, const RandomRows& options) {
  constexpr int kVocabulary = 90;
  std::mt19937 draw(options.seed);
  const auto append = [&](int n, Example* example, bool labelled) {
    for (int i = 0; i < n; ++i) {
      example->input_ids.push_back(static_cast<int32_t>(1 + draw() % kVocabulary));
      example->labels.push_back(labelled ? example->input_ids.back() : kIgnoredLabel);
    }
  };
  ExampleSet set;
  set.kind = kind;
  Example common;
  append(options.common_tokens, &common, false);
  for (int64_t row = 0; row < options.rows; ++row) {
    Example prompt = common;
    append(static_cast<int>(2 + draw() % 12), &prompt, false);
    for (int64_t side = 0; side < set.sequences_per_row(); ++side) {
      append(static_cast<int>(1 + draw() % 20), &set.sequences.emplace_back(prompt),
             !options.has_labels || options.has_labels(row));
    }
    if (kind == RowKind::kLabelled) set.desirable.push_back(row % 3 != 0);
  }
  return set;
}

}  // namespace liger::trainer
