#include "worker/agent/exit_classifier.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace liger::agent {
namespace {

constexpr int ExitCode(int code) { return code << 8; }
constexpr int Killed(int signal_number) { return signal_number; }

RankOutcome Rank(int rank, int wait_status, bool done = false, int order = 0) {
  RankOutcome outcome;
  outcome.rank = rank;
  outcome.wait_status = wait_status;
  outcome.done = done;
  outcome.order = order;
  return outcome;
}

RankOutcome Failed(int rank, v1::FailureClass failure_class) {
  RankOutcome outcome = Rank(rank, ExitCode(1));
  outcome.failed.emplace();
  outcome.failed->set_class_(failure_class);
  return outcome;
}

TEST(ClassifyExitTest, DoneIsWellWhateverComesAfterIt) {
  EXPECT_FALSE(ClassifyExit({Rank(0, ExitCode(0), true)}, {}).has_failure());
  EXPECT_FALSE(ClassifyExit({Rank(0, Killed(SIGSEGV), true)}, {}).has_failure());
}

TEST(ClassifyExitTest, AFailedEventSaysMoreThanTheSignal) {
  RankOutcome rank = Failed(0, v1::FAILURE_CLASS_NAN);
  rank.wait_status = Killed(SIGKILL);
  rank.out_of_memory = true;
  rank.done = true;
  const auto exited = ClassifyExit({rank}, {});
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_NAN);
  EXPECT_EQ(exited.local_ranks(0).signal(), SIGKILL);
}

TEST(ClassifyExitTest, SigkillWithACountedOomKillIsMemory) {
  RankOutcome rank = Rank(0, Killed(SIGKILL));
  EXPECT_EQ(ClassifyExit({rank}, {}).failure().class_(), v1::FAILURE_CLASS_INFRA);
  rank.out_of_memory = true;
  const auto exited = ClassifyExit({rank}, {});
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_OOM_HOST);
  EXPECT_NE(exited.failure().message(), "");  // what to do the coordinator adds
  // Another process's OOM kill does not explain a segmentation fault.
  rank.wait_status = Killed(SIGSEGV);
  EXPECT_EQ(ClassifyExit({rank}, {}).failure().class_(), v1::FAILURE_CLASS_INFRA);
}

TEST(ClassifyExitTest, KilledForItsSilenceIsAHangAndToBlame) {
  RankOutcome hung = Rank(1, Killed(SIGKILL), false, 1);
  hung.silent_for = absl::Seconds(61.5);
  RankOutcome killed_with_it = Rank(0, Killed(SIGKILL));
  killed_with_it.killed_by_agent = true;
  const auto exited = ClassifyExit({killed_with_it, hung}, {});
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_HANG);
  EXPECT_EQ(exited.first_failed_rank(), 1);
  EXPECT_EQ(exited.failure().message(),
            "the trainer of rank 1 gave no sign of life for 1m1s and was killed");
  hung.silent_for = absl::ZeroDuration();
  hung.idle_for = absl::Minutes(30);
  hung.phase = trainer::v1::PHASE_SAVING;
  hung.step = 12;
  EXPECT_EQ(ClassifyExit({killed_with_it, hung}, {}).failure().message(),
            "the trainer of rank 1 made no progress for 30m (SAVING, after step 12) and was "
            "killed");
  hung.done = true;
  EXPECT_FALSE(ClassifyExit({hung}, {}).has_failure()) << "it had said that it is done";
}

TEST(ClassifyExitTest, SilenceIsInfrastructure) {
  EXPECT_EQ(ClassifyExit({Rank(0, ExitCode(7))}, {}).failure().class_(), v1::FAILURE_CLASS_INFRA);
  EXPECT_EQ(ClassifyExit({Rank(0, ExitCode(0))}, {}).failure().class_(), v1::FAILURE_CLASS_INFRA);
  RankOutcome unknown = Rank(0, 0);
  unknown.wait_status.reset();
  EXPECT_EQ(ClassifyExit({unknown}, {}).failure().class_(), v1::FAILURE_CLASS_INFRA);
}

TEST(ClassifyExitTest, BlamesTheRankThatFailedFirstByItself) {
  RankOutcome victim = Rank(0, Killed(SIGKILL), false, 0);
  victim.killed_by_agent = true;
  const auto crashed = ClassifyExit(
      {victim, Rank(1, Killed(SIGABRT), false, 1), Rank(2, Killed(SIGSEGV), false, 2)}, {});
  EXPECT_EQ(crashed.first_failed_rank(), 1);
  EXPECT_EQ(crashed.failure().first_failed_rank(), 1);
  RankOutcome told = Failed(2, v1::FAILURE_CLASS_DATA);
  told.order = 9;
  const auto exited = ClassifyExit({Rank(0, Killed(SIGABRT)), victim, told}, {});
  EXPECT_EQ(exited.first_failed_rank(), 2);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_DATA);
}

TEST(ClassifyExitTest, ALostPeerNeverWinsOverTheRankThatWasLost) {
  RankOutcome lost_it = Failed(0, v1::FAILURE_CLASS_INFRA);
  lost_it.failed->set_message("lost rank 1");
  lost_it.failed->set_first_failed_rank(1);
  lost_it.order = 0;
  auto exited = ClassifyExit({lost_it, Rank(1, Killed(SIGKILL), false, 1)}, {});
  EXPECT_EQ(exited.first_failed_rank(), 1);
  EXPECT_EQ(exited.failure().message(), "the trainer of rank 1 was killed by signal 9 (Killed)");
  RankOutcome nan = Failed(1, v1::FAILURE_CLASS_NAN);
  nan.order = 1;
  EXPECT_EQ(ClassifyExit({lost_it, nan}, {}).failure().class_(), v1::FAILURE_CLASS_NAN);
  // One that does not know whose end broke its connection: the first to end is to blame.
  RankOutcome puzzled = Failed(0, v1::FAILURE_CLASS_INFRA);
  puzzled.order = 1;
  EXPECT_EQ(ClassifyExit({puzzled, Rank(1, Killed(SIGKILL), false, 0)}, {}).first_failed_rank(), 1);
  EXPECT_EQ(ClassifyExit({puzzled, Rank(1, Killed(SIGABRT), false, 2)}, {}).first_failed_rank(), 0);
  RankOutcome stopped = Rank(1, ExitCode(2), false, 0);
  stopped.told_to_stop = true;
  EXPECT_EQ(ClassifyExit({lost_it, stopped}, {}).failure().message(), "lost rank 1");
  // On another worker: what is known of it is told.
  lost_it.failed->set_first_failed_rank(5);
  RankOutcome killed_with_it = Rank(1, Killed(SIGKILL), false, 1);
  killed_with_it.killed_by_agent = true;
  exited = ClassifyExit({lost_it, killed_with_it}, {});
  EXPECT_EQ(exited.first_failed_rank(), 5);
  EXPECT_EQ(exited.failure().first_failed_rank(), 5);
  EXPECT_EQ(exited.failure().message(), "lost rank 1");
  lost_it.failed->set_first_failed_rank(-1);
  EXPECT_EQ(ClassifyExit({lost_it}, {}).failure().first_failed_rank(), -1);
}

TEST(ClassifyExitTest, WhatRanksTellOfOneThatFailedIsNoFailureOfTheirs) {
  // Each of them tells the class and the words of the one that failed.
  std::vector<RankOutcome> ranks;
  for (const int rank : {0, 1, 2}) {
    ranks.push_back(Failed(rank, v1::FAILURE_CLASS_DATA));
    ranks.back().failed->set_message(rank == 2 ? "row 3 is empty" : "rank 2: row 3 is empty");
    if (rank != 2) ranks.back().failed->set_first_failed_rank(2);
    ranks.back().order = rank;
  }
  const auto exited = ClassifyExit(ranks, {});
  EXPECT_EQ(exited.first_failed_rank(), 2);
  EXPECT_EQ(exited.failure().message(), "row 3 is empty");
  // That one is on another worker, or was killed with the gang, as one that hangs is.
  ranks[2] = Rank(2, Killed(SIGKILL), false, 0);
  ranks[2].killed_by_agent = true;
  EXPECT_EQ(ClassifyExit(ranks, {}).first_failed_rank(), 2);
  EXPECT_EQ(ClassifyExit(ranks, {}).failure().message(), "rank 2: row 3 is empty");
}

TEST(ClassifyExitTest, APausedTaskEndedWell) {
  RankOutcome rank = Rank(0, ExitCode(2));
  rank.paused = true;
  EXPECT_TRUE(ClassifyExit({rank}, {}).paused());
  EXPECT_FALSE(ClassifyExit({rank}, {}).has_failure());
  EXPECT_TRUE(ClassifyExit({rank}, {.cancelled = true}).cancelled());
  const auto vacated = ClassifyExit({rank}, {.worker_error = "shut down", .worker_stopped = true});
  EXPECT_TRUE(vacated.worker_stopped());
  EXPECT_EQ(vacated.failure().message(), "shut down");
  EXPECT_FALSE(vacated.paused());
  EXPECT_FALSE(ClassifyExit({rank, Rank(1, Killed(SIGSEGV))}, {}).paused());
}

TEST(ClassifyExitTest, AStoppedTaskIsCancelledUnlessItFinishedOrFailed) {
  ExitContext stopped{.cancelled = true};
  EXPECT_TRUE(ClassifyExit({Rank(0, ExitCode(2))}, stopped).cancelled());
  EXPECT_FALSE(ClassifyExit({Rank(0, ExitCode(2))}, stopped).has_failure());
  EXPECT_FALSE(ClassifyExit({Rank(0, ExitCode(0), true)}, stopped).cancelled());
  EXPECT_FALSE(ClassifyExit({Failed(0, v1::FAILURE_CLASS_NAN)}, stopped).cancelled());
}

TEST(ClassifyExitTest, TheWorkersOwnTroubleIsInfrastructure) {
  const auto shut_down = ClassifyExit({Rank(0, ExitCode(2))}, {.worker_error = "shut down"});
  EXPECT_EQ(shut_down.failure().class_(), v1::FAILURE_CLASS_INFRA);
  EXPECT_EQ(shut_down.failure().message(), "shut down");
  EXPECT_FALSE(shut_down.worker_stopped());
  const ExitContext in_order{.worker_error = "shut down", .worker_stopped = true};
  EXPECT_TRUE(ClassifyExit({Rank(0, ExitCode(2))}, in_order).worker_stopped());
  EXPECT_FALSE(ClassifyExit({Failed(0, v1::FAILURE_CLASS_NAN)}, in_order).worker_stopped())
      << "it had failed by itself";
  const auto spawn = ClassifyExit({Rank(0, 0)}, {.spawn_error = "no such program"});
  EXPECT_EQ(spawn.failure().message(), "no such program");
}

}  // namespace
}  // namespace liger::agent
