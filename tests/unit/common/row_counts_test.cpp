#include "common/spec/row_counts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace liger {
namespace {

using testing::HasSubstr;

TEST(RowCountsTest, LostPromptsAreAmongTheCutOnes) {
  RowCounts counts;
  counts["eval_rows"] = 3;
  counts["eval_truncated_rows"] = 3;
  counts["eval_cut_prompts"] = 2;
  EXPECT_THAT(DescribeRows(counts, kEvalRows),
              HasSubstr("3 cut to max_length (2 with less than half of the prompt left); "));
  counts["eval_lost_prompts"] = 1;
  EXPECT_THAT(DescribeRows(counts, kEvalRows),
              HasSubstr("(2 with less than half of the prompt left, 1 of them with none of it); "));
}

}  // namespace
}  // namespace liger
