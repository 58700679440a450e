// What liger-worker does while the coordinator is away or does not know it, and after it
// was itself gone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "tests/unit/agent/agent_fixture.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;
using testing::IsEmpty;
using testing::SizeIs;
using worker::v1::Exited;

TEST_F(AgentTest, KeepsTrainingWithoutTheCoordinatorAndReplaysWhatItMissed) {
  StartAgent();
  Run(ref_, {{"steps", "100"}, {"step_ms", "40"}});
  WaitForProgress(ref_);
  RestartCoordinator();
  const worker::v1::Hello hello = coordinator_->WaitForHello();
  ASSERT_THAT(hello.owned(), SizeIs(1));
  EXPECT_TRUE(hello.owned(0).running());
  EXPECT_EQ(hello.owned(0).ref().job_uid(), "job-a");
  EXPECT_FALSE(coordinator_->WaitForExited(ref_).has_failure());
  ExpectGapless(ref_);
  ASSERT_TRUE(coordinator_->WaitUntil([&] { return coordinator_->Steps(ref_).size() == 100; }));
}

TEST_F(AgentTest, ReplaysUnacknowledgedEventsOnTheNextSession) {
  coordinator_->SetAcknowledgeEvents(false);
  StartAgent();
  Run(ref_, {});
  coordinator_->WaitForExited(ref_);
  const size_t before = coordinator_->Received(ref_).size();
  coordinator_->SetAcknowledgeEvents(true);
  coordinator_->CloseSessions();
  EXPECT_TRUE(
      coordinator_->WaitUntil([&] { return coordinator_->Received(ref_).size() >= 2 * before; }));
  ExpectGapless(ref_);
}

TEST_F(AgentTest, ShipsWhatAnOutageHeldUp) {
  coordinator_->SetShip(false);
  StartAgent({"--ship-timeout", "4"});
  Run(ref_, {{"steps", "5"}});
  coordinator_->WaitForExited(ref_);
  const int port = coordinator_->port();
  const FakeCoordinator::Memory memory = coordinator_->memory();
  coordinator_.reset();
  absl::SleepFor(absl::Seconds(5));  // longer than the time for shipping, a retry a second
  coordinator_ = std::make_unique<FakeCoordinator>(port, memory);
  EXPECT_TRUE(coordinator_->WaitUntil([&] { return coordinator_->Steps(ref_).size() == 5; },
                                      absl::Seconds(20)));
}

TEST_F(AgentTest, ATaskThatEndedWellIsNoFailureBecauseNobodyKnowsItAnyMore) {
  coordinator_->SetAcknowledgeEvents(false);
  StartAgent();
  Run(ref_, {});
  coordinator_->WaitForExited(ref_);
  coordinator_->SetVerdict("job-a", worker::v1::Verdict::STOP);
  coordinator_->SetAcknowledgeEvents(true);
  coordinator_->CloseSessions();
  EXPECT_TRUE(coordinator_->WaitUntil([&] { return agent_.Folders("attempts").empty(); }));
  EXPECT_THAT(agent_.Folders("failed"), IsEmpty());
}

TEST_F(AgentTest, DoesNotUseAGrantThatArrivesAfterItsLease) {
  coordinator_->SetPublicationAnswer(FakeCoordinator::PublicationAnswer::kNone);
  StartAgent();
  Run(ref_, {});
  ASSERT_TRUE(coordinator_->WaitUntil([&] { return CountPublishRequests() == 1; }));
  // A stopped agent cannot notice that its lease of 1.5 s ends; the grant waits
  // in its socket.
  agent_.Signal(SIGSTOP);
  coordinator_->Grant(ref_);
  absl::SleepFor(absl::Seconds(2.5));
  agent_.Signal(SIGCONT);
  // It asks again on the next session, with a lease again, and only then...
  ASSERT_TRUE(coordinator_->WaitUntil([&] { return CountPublishRequests() == 2; }));
  coordinator_->WaitForHeartbeats(3);
  EXPECT_FALSE(fs::exists(agent_.output("job-a")));
  // ... a grant counts.
  coordinator_->Grant(ref_);
  EXPECT_FALSE(coordinator_->WaitForExited(ref_).has_failure());
  EXPECT_TRUE(fs::exists(agent_.output("job-a") + "/manifest.json"));
}

TEST_F(AgentTest, ConnectsAgainWhenHeartbeatsGoUnanswered) {
  StartAgent();
  Run(ref_, {{"end", "wait"}});
  WaitForProgress(ref_);
  coordinator_->SetAcknowledgeHeartbeats(false);
  coordinator_->WaitForHello(2);
  EXPECT_THAT(agent_.Trainers(), SizeIs(1)) << "training goes on";
}

TEST_F(AgentTest, RefusesACoordinatorOfALowerTerm) {
  coordinator_->term = 5;
  StartAgent();
  const int port = coordinator_->port();
  coordinator_.reset();
  coordinator_ = std::make_unique<FakeCoordinator>(port);
  coordinator_->term = 4;
  EXPECT_EQ(coordinator_->WaitForHello(2).term_seen(), 5);
  EXPECT_EQ(coordinator_->last_heartbeat().seq(), 0) << "no heartbeat for an old coordinator";
}

TEST_F(AgentTest, StopsItsTrainersWhenTheCoordinatorStaysAway) {
  coordinator_->lease.set_orphan_timeout_seconds(2);
  StartAgent();
  Run(ref_, {{"end", "wait"}});
  WaitForProgress(ref_);
  const int port = coordinator_->port();
  coordinator_.reset();
  absl::SleepFor(absl::Seconds(1));
  EXPECT_THAT(agent_.Trainers(), SizeIs(1)) << "too early";
  const absl::Time deadline = absl::Now() + absl::Seconds(15);
  while (!agent_.Trainers().empty() && absl::Now() < deadline) absl::SleepFor(absl::Seconds(0.1));
  EXPECT_THAT(agent_.Trainers(), IsEmpty());
  coordinator_ = std::make_unique<FakeCoordinator>(port);
  EXPECT_EQ(coordinator_->WaitForExited(ref_).failure().class_(), v1::FAILURE_CLASS_INFRA);
}

TEST_F(AgentTest, StopsATaskThatTheCoordinatorDoesNotKnow) {
  StartAgent();
  Run(ref_, {{"end", "wait"}});
  WaitForProgress(ref_);
  coordinator_->SetVerdict("job-a", worker::v1::Verdict::STOP);
  coordinator_->CloseSessions();
  coordinator_->WaitForExited(ref_);
  EXPECT_TRUE(coordinator_->WaitUntil([&] { return agent_.Folders("failed").size() == 1; }));
  EXPECT_THAT(agent_.Trainers(), IsEmpty());
}

TEST_F(AgentTest, ANewerAttemptStopsTheOlder) {
  StartAgent({"--cpu-slots", "2"});
  Run(ref_, {{"end", "wait"}});
  WaitForProgress(ref_);
  coordinator_->Prepare(MakeRef("job-a", 2), trainer::v1::TASK_KIND_TRAIN,
                        {coordinator_->WaitForHello().devices(1).uuid()});
  EXPECT_TRUE(coordinator_->WaitForExited(ref_).cancelled());
}

// ---- losing the agent

TEST_F(AgentTest, ItsTrainersAreGoneFiveSecondsAfterTheAgentIsKilled) {
  StartAgent();
  Run(ref_, {{"steps", "1"}, {"end", "hang"}});
  WaitForProgress(ref_);
  ASSERT_THAT(agent_.Trainers(), SizeIs(1));
  agent_.Kill();
  EXPECT_TRUE(WaitForNoTrainers(absl::Seconds(5)));
}

TEST_F(AgentTest, ARestartedAgentReportsALostTaskUnderTheSameNumbers) {
  StartAgent();
  Run(ref_, {{"end", "wait"}, {"fork", "1"}});
  WaitForProgress(ref_);
  agent_.Kill();
  agent_.Start();
  const worker::v1::Hello hello = coordinator_->WaitForHello(2);
  ASSERT_THAT(hello.owned(), SizeIs(1));
  EXPECT_GT(hello.owned(0).last_event_seq(), 0);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_INFRA);
  EXPECT_THAT(agent_.Trainers(), IsEmpty()) << "also the one in a session of its own";
  ExpectGapless(ref_);
}

TEST_F(AgentTest, AFinishedResultSurvivesTheAgent) {
  coordinator_->SetAcknowledgeEvents(false);
  StartAgent();
  const std::string id = coordinator_->WaitForHello().worker_id();
  Run(ref_, {});
  coordinator_->WaitForExited(ref_);
  agent_.Kill();
  coordinator_->SetAcknowledgeEvents(true);
  const size_t before = coordinator_->Received(ref_).size();
  agent_.Start();
  const worker::v1::Hello hello = coordinator_->WaitForHello(2);
  EXPECT_EQ(hello.worker_id(), id);
  ASSERT_THAT(hello.owned(), SizeIs(1));
  EXPECT_FALSE(hello.owned(0).running());
  ASSERT_TRUE(
      coordinator_->WaitUntil([&] { return coordinator_->Received(ref_).size() >= 2 * before; }));
  EXPECT_FALSE(coordinator_->WaitForExited(ref_).has_failure());
  ExpectGapless(ref_);
  EXPECT_TRUE(coordinator_->WaitUntil([&] { return agent_.Folders("attempts").empty(); }));
}

}  // namespace
}  // namespace liger::agent
