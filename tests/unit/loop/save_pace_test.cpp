#include "worker/trainer/loop/save_pace.h"

#include <gtest/gtest.h>

namespace liger::trainer {
namespace {

constexpr absl::Duration kSecond = absl::Seconds(1);
const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

TEST(SavePaceTest, NothingIsWaitedForWhereNothingIsWritten) {
  SavePace pace;
  EXPECT_EQ(pace.TooLongAt(kStart), std::nullopt);
  pace.Begin(kStart);
  pace.End(60 * kSecond);
  EXPECT_EQ(pace.TooLongAt(kStart + 60 * kSecond), std::nullopt);
}

// Nothing is known yet of how long the disk takes.
TEST(SavePaceTest, TheFirstOneIsTakenToBeHalfWay) {
  SavePace pace;
  pace.Begin(kStart);
  EXPECT_EQ(pace.TooLongAt(kStart + 5 * kSecond), std::nullopt);
  EXPECT_EQ(pace.TooLongAt(kStart + 6 * kSecond), 6 * kSecond);
}

TEST(SavePaceTest, LaterOnesAreTakenToLastAsLongAsTheOneBefore) {
  SavePace pace;
  pace.Begin(kStart);
  pace.End(60 * kSecond);
  pace.Begin(kStart);
  EXPECT_EQ(pace.TooLongAt(kStart + 40 * kSecond), 20 * kSecond);
  EXPECT_EQ(pace.TooLongAt(kStart + 55 * kSecond), std::nullopt) << "5 s may be waited";
  EXPECT_EQ(pace.TooLongAt(kStart + 70 * kSecond), 70 * kSecond) << "it takes longer than that";
}

TEST(SavePaceTest, LongIntervalsMayWaitLonger) {
  SavePace pace;
  pace.Begin(kStart);
  pace.End(1060 * kSecond);
  pace.Begin(kStart);
  EXPECT_EQ(pace.TooLongAt(kStart + 1010 * kSecond), std::nullopt) << "50 s are 5 % of it";
  EXPECT_EQ(pace.TooLongAt(kStart + 1000 * kSecond), 60 * kSecond);
}

}  // namespace
}  // namespace liger::trainer
