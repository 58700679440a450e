#ifndef LIGER_TESTS_UNIT_OBJECTIVES_RANDOM_ROWS_H_
#define LIGER_TESTS_UNIT_OBJECTIVES_RANDOM_ROWS_H_

#include <cstdint>
#include <functional>

#include "worker/trainer/data/example.h"

namespace liger::trainer {

// Of tokens 1 to 90, which the tiny models of tests/golden know.
struct RandomRows {
  uint32_t seed = 17;
  int64_t rows = 8;
  int common_tokens = 0;                             // with which all sequences begin
  std::function<bool(int64_t row)> has_labels = {};  // empty: all have
};

// Rows of unequal lengths: a prompt of 2 to 13 tokens and one or two answers of 1 to 20, which
// their labels name. Of labelled rows, those that a multiple of 3 counts are undesirable.
ExampleSet MakeRandomRows(RowKind kind, const RandomRows& options = {});

}  // namespace liger::trainer

#endif  // LIGER_TESTS_UNIT_OBJECTIVES_RANDOM_ROWS_H_
