#include "worker/agent/oom_watch.h"

#include <gtest/gtest.h>

#include "worker/agent/steady_time.h"

namespace liger::agent {
namespace {

TEST(OomKillCountTest, IsThere) { EXPECT_GE(OomKillCount(), 0); }

TEST(OomWatchTest, OnlyAKillThatFallsTogetherWithTheEndCounts) {
  int64_t kills = 3;
  OomWatch watch([&kills] { return kills; });
  const absl::Time start = SteadyNow();
  watch.Look(start);
  EXPECT_FALSE(watch.Recent(start)) << "what was counted before the start";
  ++kills;
  watch.Look(start + absl::Seconds(10));
  EXPECT_TRUE(watch.Recent(start + absl::Seconds(10)));
  EXPECT_TRUE(watch.Recent(start + absl::Seconds(12))) << "it takes a while to end";
  watch.Look(start + absl::Minutes(30));
  EXPECT_FALSE(watch.Recent(start + absl::Minutes(30))) << "another program's, long ago";
}

}  // namespace
}  // namespace liger::agent
