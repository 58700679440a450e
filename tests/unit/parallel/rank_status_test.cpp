#include "worker/trainer/parallel/rank_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/trainer/error.h"
#include "worker/trainer/parallel/gang.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr WatchLimits kLimits;

SeenRank Working(int64_t issued) {
  SeenRank rank;
  rank.status.emplace();
  rank.status->beat = 5;
  rank.status->issued = issued;
  return rank;
}
SeenRank Waiting(int64_t issued, double seconds) {
  SeenRank rank = Working(issued);
  rank.status->waits_for = issued;
  rank.status->waited_s = seconds;
  rank.status->what = "the gradients";
  return rank;
}

TEST(RankStatusTest, TextsAreReadBack) {
  RankStatus status = *Waiting(7, 1.5).status;
  status.ticks = 123;
  status.in_slow_call = true;
  status.error = "reset by peer";
  status.left = Farewell::Failed(DataError("row 3 is empty", "mend it").failure());
  const RankStatus read = RankStatus::FromText(status.ToText());
  EXPECT_EQ(read.ToText(), status.ToText());
  EXPECT_EQ(read.waits_for, 7);
  EXPECT_EQ(read.left.failure.message(), "row 3 is empty");
  EXPECT_EQ(Farewell::FromText(Farewell::Stopped("signal 15").ToText()).reason, "signal 15");
  EXPECT_THROW(RankStatus::FromText("nonsense"), std::runtime_error);
}

TEST(JudgeTest, WaitingForOnesThatWorkIsFine) {
  SeenRank saves = Working(3);
  saves.idle_s = 300;
  saves.status->in_slow_call = true;
  EXPECT_FALSE(Judge({saves, Waiting(4, 1000)}, kLimits));
  SeenRank samples = Working(3);
  samples.idle_s = 2;
  EXPECT_FALSE(Judge({samples, Waiting(4, 1000)}, kLimits));
  EXPECT_FALSE(Judge({Working(3), Working(3)}, kLimits));
}

TEST(JudgeTest, NamesARankThatIsSilent) {
  std::vector<SeenRank> ranks = {Waiting(4, 21), Working(3), Waiting(4, 21)};
  ranks[1].silent_s = 21;
  const auto verdict = Judge(ranks, kLimits);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->failure.class_(), liger::v1::FAILURE_CLASS_INFRA);
  EXPECT_EQ(verdict->failure.first_failed_rank(), 1);
  EXPECT_THAT(
      verdict->failure.message(),
      AllOf(HasSubstr("rank 1 is lost"), HasSubstr("while rank 0 waited for the gradients")));
}

TEST(JudgeTest, WithAnErrorSilenceIsJudgedSooner) {
  std::vector<SeenRank> ranks = {Waiting(4, 5), Working(3), Working(3)};
  ranks[1].silent_s = 4;
  ranks[2].silent_s = 3.5;
  EXPECT_FALSE(Judge(ranks, kLimits));
  ranks[0].status->error = "Connection closed by peer";
  ASSERT_TRUE(Judge(ranks, kLimits));
  EXPECT_EQ(Judge(ranks, kLimits)->failure.first_failed_rank(), 1);
}

TEST(JudgeTest, NamesTheCollectiveThatHangsAndWhoIsMissing) {
  std::vector<SeenRank> ranks = {Waiting(9, 95), Working(8), Waiting(9, 95), Working(8)};
  ranks[1].idle_s = ranks[3].idle_s = 93;
  const auto verdict = Judge(ranks, kLimits);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->failure.class_(), liger::v1::FAILURE_CLASS_HANG);
  EXPECT_THAT(verdict->failure.message(),
              AllOf(HasSubstr("the gradients (collective 9)"), HasSubstr("ranks 1, 3 have not")));
  ranks[3].idle_s = 1;
  EXPECT_FALSE(Judge(ranks, kLimits)) << "rank 3 is on its way";
}

TEST(JudgeTest, AHangOfAllIsTheNetworks) {
  const auto verdict = Judge({Waiting(9, 95), Waiting(9, 96)}, kLimits);
  ASSERT_TRUE(verdict);
  EXPECT_THAT(verdict->failure.message(), HasSubstr("network"));
  EXPECT_EQ(verdict->failure.first_failed_rank(), -1) << "none of them is to blame";
  EXPECT_FALSE(Judge({Waiting(9, 95), Waiting(9, 1)}, kLimits));
}

TEST(JudgeTest, ARanksOwnFailureIsTheGangs) {
  std::vector<SeenRank> ranks = {Waiting(4, 1), Working(3)};
  ranks[1].status->left = Farewell::Failed(DataError("row 3 is empty", "mend it").failure());
  const auto verdict = Judge(ranks, kLimits);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->failure.class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(verdict->failure.message(), "rank 1: row 3 is empty");
  EXPECT_EQ(verdict->failure.action(), "mend it");
  ranks[1].status->left = Farewell::Stopped("signal 15");
  EXPECT_EQ(Judge(ranks, kLimits)->kind, Farewell::Kind::kStopped);
  // One that is done is silent by right.
  ranks[1].status->left = Farewell::Done();
  ranks[1].silent_s = 1000;
  EXPECT_FALSE(Judge(ranks, kLimits));
}

TEST(JudgeTest, ARankThatTellsOfAnothersFailureIsNotToBlame) {
  std::vector<SeenRank> ranks = {Waiting(4, 1), Working(3), Working(3)};
  ranks[0].status->left = Farewell::Failed(
      TrainerError(liger::v1::FAILURE_CLASS_INFRA, "rank 1 is lost").FirstFailedRank(1).failure());
  auto verdict = Judge(ranks, kLimits);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->failure.first_failed_rank(), 1);
  EXPECT_EQ(verdict->failure.message(), "rank 1 is lost");
  ranks[2].status->left = Farewell::Failed(DataError("row 3 is empty").failure());
  verdict = Judge(ranks, kLimits);
  EXPECT_EQ(verdict->failure.first_failed_rank(), 2) << "which failed by itself";
  EXPECT_EQ(verdict->failure.message(), "rank 2: row 3 is empty");
}

TEST(ThrowFarewellTest, KeepsWhoFailedFirst) {
  liger::v1::Failure failure = DataError("row 3 is empty", "mend it").Row(3).failure();
  failure.set_first_failed_rank(2);
  try {
    ThrowFarewell(Farewell::Failed(failure));
    FAIL();
  } catch (const TrainerError& error) {
    EXPECT_EQ(error.failure().SerializeAsString(), failure.SerializeAsString());
    EXPECT_STREQ(error.what(), "row 3 is empty");
  }
}

TEST(JudgeTest, AnErrorWithoutACauseEndsInOne) {
  std::vector<SeenRank> ranks = {Waiting(4, 5), Working(4)};
  ranks[0].status->error = "Connection reset";
  EXPECT_FALSE(Judge(ranks, kLimits));
  ranks[0].error_s = 11;
  ASSERT_TRUE(Judge(ranks, kLimits));
  EXPECT_THAT(Judge(ranks, kLimits)->failure.message(),
              AllOf(HasSubstr("rank 0"), HasSubstr("Connection reset"), Not(HasSubstr("lost:"))));
}

TEST(JudgeTest, OthersJudgeRank0BySilenceAlone) {
  EXPECT_FALSE(JudgeLeader(Waiting(9, 1000), kLimits));
  SeenRank silent = Working(3);
  silent.silent_s = 21;
  ASSERT_TRUE(JudgeLeader(silent, kLimits));
  EXPECT_THAT(JudgeLeader(silent, kLimits)->failure.message(), HasSubstr("rank 0 is lost"));
}

TEST(WatchLimitsTest, ComeFromTheEnvironment) {
  setenv("LIGER_PEER_TIMEOUT", "7", 1);
  EXPECT_EQ(WatchLimits::FromEnvironment().silence_s, 7);
  setenv("LIGER_PEER_TIMEOUT", "soon", 1);
  EXPECT_THROW(WatchLimits::FromEnvironment(), TrainerError);
  unsetenv("LIGER_PEER_TIMEOUT");
  EXPECT_LE(WatchLimits::FromEnvironment().join_s, 110) << "a join is named within 2 minutes";
  setenv("LIGER_JOIN_TIMEOUT", "300", 1);
  EXPECT_EQ(WatchLimits::FromEnvironment().join_s, 300);
  unsetenv("LIGER_JOIN_TIMEOUT");
}

}  // namespace
}  // namespace liger::trainer
