#include "worker/trainer/parallel/exit_deadline.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/time/clock.h"
#include "tests/unit/fsdp/ranks.h"
#include "worker/trainer/parallel/fsdp/unit_gatherer.h"

namespace liger::trainer {
namespace {

// Rank 0 has a gather on its way that rank 1, as a frozen one, does not join. Exits with 1 when it
// has let go of it.
void LetGoOfAGather() {
  testing_ranks::RunRanks(2, 2, [](const testing_ranks::Groups& groups) {
    if (groups.rank == 1) absl::SleepFor(absl::Minutes(10));
    ShardUnit unit;
    unit.is_block = true;
    unit.parts.push_back(std::make_unique<FlatParameter>(
        std::vector<FlatParameter::Leaf>{{"weight", at::ones({1024})}}, at::kFloat, at::kFloat,
        groups.rank, 2, ShardHome(at::kCPU, /*on_host=*/false)));
    {
      UnitGatherer gatherer(groups.shards, at::kCPU, /*buffers=*/2);
      gatherer.Prefetch(unit);
    }
    _exit(1);
  });
}

TEST(ExitDeadlineDeathTest, EndsARankThatLetsGoOfAGatherWithAFrozenOne) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const ExitDeadline deadline(absl::Seconds(2), [] { _exit(5); });
        LetGoOfAGather();
      },
      testing::ExitedWithCode(5), "");
}

TEST(ExitDeadlineTest, DoesNothingToThoseInTime) {
  const absl::Time began = absl::Now();
  { const ExitDeadline deadline(absl::Hours(1), [] { std::abort(); }); }
  EXPECT_LT(absl::Now() - began, absl::Minutes(1));
}

}  // namespace
}  // namespace liger::trainer
