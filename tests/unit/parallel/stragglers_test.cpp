#include "worker/trainer/parallel/stragglers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace liger::trainer {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class StragglersTest : public testing::Test {
 protected:
  // What is found in so many equal steps.
  std::vector<Stragglers::Found> Steps(int steps, const std::vector<double>& seconds) {
    std::vector<Stragglers::Found> all;
    for (int i = 0; i < steps; ++i) {
      for (const auto& found : stragglers_.Add(seconds)) all.push_back(found);
    }
    return all;
  }

  Stragglers stragglers_{{.factor = 1.5, .least_s = 0.005, .steps = 20}};
};

TEST_F(StragglersTest, OneThatIsSlowForLongIsToldOnceWithItsFigures) {
  EXPECT_THAT(Steps(19, {1.0, 1.1, 1.8, 0.9}), IsEmpty());
  const auto found = Steps(1000, {1.0, 1.1, 1.8, 0.9});
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].rank, 2);
  EXPECT_DOUBLE_EQ(found[0].median, 1.0) << "of the other three";
  EXPECT_THAT(found[0].Message(),
              HasSubstr("rank 2 works 1.8 s a step, the others 1 s (median; it takes 1.8 times as "
                        "long, in each of 20 steps)"));
}

TEST_F(StragglersTest, OfTwoTheOtherOneIsTheMeasure) {
  EXPECT_THAT(Steps(100, {1.0, 1.4}), IsEmpty());
  EXPECT_THAT(Steps(20, {1.6, 1.0}), SizeIs(1));
}

TEST_F(StragglersTest, OneFineStepBeginsItAnew) {
  for (int i = 0; i < 10; ++i) {
    EXPECT_THAT(Steps(19, {1.0, 2.0}), IsEmpty());
    EXPECT_THAT(Steps(1, {1.0, 1.0}), IsEmpty());
  }
}

TEST_F(StragglersTest, ItIsNewsAgainAfterItWasFine) {
  EXPECT_THAT(Steps(20, {1.0, 2.0}), SizeIs(1));
  Steps(19, {1.0, 1.0});
  EXPECT_THAT(Steps(20, {1.0, 2.0}), IsEmpty()) << "not fine for as long";
  Steps(20, {1.0, 1.0});
  EXPECT_THAT(Steps(20, {1.0, 2.0}), SizeIs(1));
}

TEST_F(StragglersTest, StepsTooShortToMatterDoNot) {
  EXPECT_THAT(Steps(100, {0.001, 0.004}), IsEmpty());
  EXPECT_THAT(Steps(100, {1.0}), IsEmpty()) << "alone";
}

}  // namespace
}  // namespace liger::trainer
