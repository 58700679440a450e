#include "common/checkpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace liger {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

TEST(CheckpointsTest, NamesCarryTheStep) {
  EXPECT_EQ(CheckpointName(20), "checkpoint-20");
  EXPECT_EQ(CheckpointStep("checkpoint-20"), 20);
  for (const char* other : {"checkpoint-", "checkpoint--1", "checkpoint-2x", "checkpoint-2.part",
                            "model", "", "checkpoint-99999999999999999999"}) {
    EXPECT_EQ(CheckpointStep(other), std::nullopt) << other;
  }
}

TEST(CheckpointsTest, TheNewestAndTheBestStay) {
  const std::vector<CheckpointMark> marks = {{10}, {20, true}, {30}, {40}, {50}};
  EXPECT_THAT(CheckpointsToRemove(marks, 2), UnorderedElementsAre(10, 30));
  EXPECT_THAT(CheckpointsToRemove(marks, 4), ElementsAre(10));
  EXPECT_THAT(CheckpointsToRemove(marks, 5), IsEmpty());
  EXPECT_THAT(CheckpointsToRemove(marks, 0), IsEmpty()) << "no limit";
  // Of several that were the best once, the last one is.
  EXPECT_THAT(CheckpointsToRemove({{10, true}, {20, true}, {30}}, 1), ElementsAre(10));
  EXPECT_THAT(CheckpointsToRemove({{10, true}, {20, true}}, 1), ElementsAre(10));
  EXPECT_THAT(CheckpointsToRemove({}, 1), IsEmpty());
}

}  // namespace
}  // namespace liger
