#include "worker/trainer/parallel/rank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "worker/trainer/error.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {
namespace {

class RankTest : public testing::Test {
 protected:
  void TearDown() override {
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT",
                             "LOCAL_WORLD_SIZE"}) {
      unsetenv(name);
    }
  }
};

TEST_F(RankTest, DefaultIsARunOfOne) {
  const RankInfo info = RankInfo::FromEnvironment();
  EXPECT_EQ(info.rank, 0);
  EXPECT_EQ(info.world_size, 1);
  EXPECT_EQ(MakeStrategy(info, {})->rank().world_size, 1);
}

TEST_F(RankTest, ReadsTorchrunsNames) {
  setenv("RANK", "3", 1);
  setenv("WORLD_SIZE", "4", 1);
  setenv("LOCAL_RANK", "1", 1);
  setenv("MASTER_ADDR", "10.0.0.1", 1);
  setenv("MASTER_PORT", "2345", 1);
  setenv("LOCAL_WORLD_SIZE", "2", 1);
  const RankInfo info = RankInfo::FromEnvironment();
  EXPECT_EQ(info.rank, 3);
  EXPECT_EQ(info.local_rank, 1);
  EXPECT_EQ(info.master_addr, "10.0.0.1");
  EXPECT_EQ(info.master_port, 2345);
  EXPECT_EQ(info.local_world_size, 2);
}

TEST_F(RankTest, RefusesWhatIsNoNumberOrContradicts) {
  setenv("RANK", "one", 1);
  EXPECT_THROW(RankInfo::FromEnvironment(), TrainerError);
  setenv("RANK", "2", 1);
  setenv("WORLD_SIZE", "2", 1);
  EXPECT_THROW(RankInfo::FromEnvironment(), TrainerError);
}

}  // namespace
}  // namespace liger::trainer
