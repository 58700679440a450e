// liger-worker as a process, with a fake trainer below it and a fake
// coordinator above it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "common/exit_code.h"
#include "common/file.h"
#include "common/file_state.h"
#include "tests/unit/agent/agent_fixture.h"

namespace liger::agent {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using worker::v1::Exited;
using worker::v1::TaskEvent;

TEST_F(AgentTest, RunsATaskToItsPublishedEnd) {
  StartAgent();
  Run(ref_, {{"steps", "5"}, {"log", "hello from the trainer"}});
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_FALSE(exited.has_failure()) << exited.DebugString();
  EXPECT_FALSE(exited.cancelled());
  ASSERT_THAT(exited.local_ranks(), SizeIs(1));
  EXPECT_EQ(exited.local_ranks(0).exit_code(), 0);

  ExpectGapless(ref_);
  const std::vector<TaskEvent> events = coordinator_->Events(ref_);
  ASSERT_GE(events.size(), 4u);
  EXPECT_TRUE(events[0].has_started());
  EXPECT_TRUE(events[1].has_phase());
  // Exited comes only once the result is where the user looks for it.
  EXPECT_TRUE(events.back().has_exited());
  EXPECT_EQ(ReadFile(agent_.output("job-a") + "/model.safetensors").value(), "weights of job-a");

  // Every step and the whole log, by the other stream.
  ASSERT_TRUE(coordinator_->WaitUntil([&] { return coordinator_->Steps(ref_).size() == 5; }));
  EXPECT_THAT(coordinator_->Steps(ref_), ElementsAre(1, 2, 3, 4, 5));
  ASSERT_TRUE(coordinator_->WaitUntil([&] {
    return coordinator_->Log(ref_).find("hello from the trainer\n") != std::string::npos;
  }));
  EXPECT_THAT(coordinator_->Log(ref_), HasSubstr("rank 0 of 1"));
  // Acknowledged and shipped: nothing is left behind.
  EXPECT_TRUE(coordinator_->WaitUntil([&] { return agent_.Folders("attempts").empty(); }));
  EXPECT_THAT(agent_.Folders("failed"), IsEmpty());
}

TEST_F(AgentTest, ThinsProgressToOneASecondAndShipsEveryStep) {
  StartAgent();
  Run(ref_, {{"steps", "60"}, {"step_ms", "20"}});
  coordinator_->WaitForExited(ref_);
  int progress = 0;
  for (const TaskEvent& event : coordinator_->Events(ref_)) progress += event.has_progress();
  EXPECT_GE(progress, 2);
  EXPECT_LE(progress, 10);
  EXPECT_TRUE(coordinator_->WaitUntil([&] { return coordinator_->Steps(ref_).size() == 60; }));
}

TEST_F(AgentTest, RunsACheckWithoutADevice) {
  StartAgent();
  coordinator_->Run(ref_, MakeSpec("job-a", {}), trainer::v1::TASK_KIND_CHECK);
  EXPECT_FALSE(coordinator_->WaitForExited(ref_).has_failure());
  bool checked = false;
  for (const TaskEvent& event : coordinator_->Events(ref_)) {
    if (event.has_check_result()) checked = event.check_result().stats().at("rows") == 5;
  }
  EXPECT_TRUE(checked);
}

TEST_F(AgentTest, ReportsTheTrainersOwnFailure) {
  StartAgent();
  Run(ref_, {{"end", "fail"}, {"log", "last words"}});
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(exited.failure().row(), 17);
  EXPECT_EQ(exited.first_failed_rank(), 0);
  EXPECT_THAT(exited.log_tail(), HasSubstr("last words"));
  EXPECT_TRUE(coordinator_->WaitUntil([&] { return agent_.Folders("failed").size() == 1; }));
}

TEST_F(AgentTest, ClassifiesACrashAsInfrastructure) {
  StartAgent();
  Run(ref_, {{"end", "crash"}});
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_INFRA);
  EXPECT_EQ(exited.local_ranks(0).signal(), SIGSEGV);
}

TEST_F(AgentTest, DropsATornFrame) {
  StartAgent();
  Run(ref_, {{"end", "torn"}});
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_INFRA);
  EXPECT_EQ(exited.local_ranks(0).signal(), SIGKILL);
  ExpectGapless(ref_);
  ASSERT_TRUE(coordinator_->WaitUntil([&] { return coordinator_->Steps(ref_).size() == 3; }));
}

TEST_F(AgentTest, StopsATrainerThatObeys) {
  StartAgent();
  Run(ref_, {{"end", "wait"}});
  WaitForProgress(ref_);
  coordinator_->Stop(ref_, 30);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_TRUE(exited.cancelled());
  EXPECT_FALSE(exited.has_failure());
  EXPECT_EQ(exited.local_ranks(0).exit_code(), 2);
}

TEST_F(AgentTest, KillsATrainerThatIgnoresStopAfterTheGrace) {
  StartAgent();
  Run(ref_, {{"steps", "1"}, {"end", "hang"}});
  WaitForProgress(ref_);
  const absl::Time stopped = absl::Now();
  coordinator_->Stop(ref_, 1);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_GE(absl::Now() - stopped, absl::Seconds(1));
  EXPECT_TRUE(exited.cancelled());
  EXPECT_EQ(exited.local_ranks(0).signal(), SIGKILL);
  EXPECT_TRUE(WaitForNoTrainers(absl::Seconds(5)));
}

TEST_F(AgentTest, LeavesNoProcessThatEscapedFromTheTrainersSession) {
  StartAgent();
  Run(ref_, {{"fork", "1"}});
  coordinator_->WaitForExited(ref_);
  // Already at the exit: the device is free from then on.
  EXPECT_THAT(agent_.Trainers(), IsEmpty());
}

TEST_F(AgentTest, RefusesADeviceThatIsHeldOrUnknown) {
  StartAgent();
  const std::string device = coordinator_->WaitForHello().devices(0).uuid();
  EXPECT_EQ(device, "CPU-" + coordinator_->WaitForHello().worker_id() + "-0");
  EXPECT_FALSE(coordinator_->WaitForHello().host_name().empty());
  Run(ref_, {{"end", "wait"}});
  coordinator_->Prepare(MakeRef("job-b"), trainer::v1::TASK_KIND_TRAIN, {device});
  EXPECT_THAT(coordinator_->WaitForRefused(MakeRef("job-b")).reason(), HasSubstr("is held by"));
  coordinator_->Prepare(MakeRef("job-c"), trainer::v1::TASK_KIND_TRAIN, {"GPU-0"});
  EXPECT_THAT(coordinator_->WaitForRefused(MakeRef("job-c")).reason(),
              HasSubstr("GPU-0 is not on this worker"));
}

TEST_F(AgentTest, AbortReleasesTheReservation) {
  StartAgent();
  const std::string device = coordinator_->WaitForHello().devices(0).uuid();
  coordinator_->Prepare(ref_, trainer::v1::TASK_KIND_TRAIN, {device});
  EXPECT_GT(coordinator_->WaitForPrepared(ref_).master().port(), 0);
  worker::v1::CoordinatorMessage abort;
  *abort.mutable_abort()->mutable_ref() = ref_;
  coordinator_->Send(abort);
  Run(MakeRef("job-b"), {});
  EXPECT_FALSE(coordinator_->WaitForExited(MakeRef("job-b")).has_failure());
}

TEST_F(AgentTest, StartIsIdempotent) {
  StartAgent();
  Run(ref_, {{"steps", "20"}});
  WaitForProgress(ref_);
  worker::v1::CoordinatorMessage again;
  *again.mutable_start()->mutable_ref() = ref_;
  *again.mutable_start()->mutable_resolved_spec() = MakeSpec("job-a", {{"end", "crash"}});
  coordinator_->Send(again);
  EXPECT_FALSE(coordinator_->WaitForExited(ref_).has_failure());
  EXPECT_THAT(coordinator_->Steps(ref_), SizeIs(testing::Le(20)));
}

TEST_F(AgentTest, PrepareOfARunningTaskGetsTheSameAnswer) {
  StartAgent();
  Run(ref_, {{"end", "wait"}});
  WaitForProgress(ref_);
  const int port = coordinator_->WaitForPrepared(ref_).master().port();
  coordinator_->ForgetPrepared();
  coordinator_->Prepare(ref_, trainer::v1::TASK_KIND_TRAIN,
                        {coordinator_->WaitForHello().devices(0).uuid()});
  EXPECT_EQ(coordinator_->WaitForPrepared(ref_).master().port(), port);
}

TEST_F(AgentTest, KeepsNothingVisibleOfADeniedPublication) {
  coordinator_->SetPublicationAnswer(FakeCoordinator::PublicationAnswer::kDeny);
  StartAgent();
  Run(ref_, {});
  coordinator_->WaitForExited(ref_);
  EXPECT_TRUE(fs::is_empty(agent_.dir() + "/outputs"));
}

TEST_F(AgentTest, RefusesAnOutputThatExistsBeforeTraining) {
  StartAgent();
  ASSERT_TRUE(MakeFolders(agent_.output("taken")).ok());
  v1::JobSpec spec = MakeSpec("job-a", {});
  spec.mutable_output()->set_uri("taken");
  coordinator_->Run(ref_, spec);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_CONFIG);
  EXPECT_EQ(exited.failure().field(), "output.uri");
}

TEST_F(AgentTest, RefusesAModelOutsideOfItsRoot) {
  StartAgent();
  v1::JobSpec spec = MakeSpec("job-a", {});
  spec.mutable_model()->set_uri("file:///etc");
  coordinator_->Run(ref_, spec);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_CONFIG);
  EXPECT_EQ(exited.failure().field(), "model.uri");
}

TEST_F(AgentTest, KillsATrainerThatGivesNoSignOfLife) {
  StartAgent({"--hang-timeout", "1"});
  Run(ref_, {{"end", "hang"}});
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_HANG);
  EXPECT_THAT(exited.failure().message(), HasSubstr("gave no sign of life for 1s"));
  EXPECT_EQ(exited.local_ranks(0).signal(), SIGKILL);
}

TEST_F(AgentTest, KillsATrainerThatLivesAndGetsNoFurther) {
  StartAgent({"--stall-timeout", "1"});
  Run(ref_, {{"steps", "2"}, {"end", "stall"}});
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_HANG);
  EXPECT_THAT(exited.failure().message(),
              HasSubstr("made no progress for 1s (TRAINING, after step 2)"));
  EXPECT_EQ(exited.failure().step(), 2);
  EXPECT_EQ(exited.local_ranks(0).signal(), SIGKILL);
}

TEST_F(AgentTest, ATrainerThatWaitsForItsDiskGetsLonger) {
  StartAgent({"--stall-timeout", "1", "--io-timeout", "3"});
  Run(ref_, {{"steps", "2"}, {"end", "sync"}});
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_HANG);
  EXPECT_THAT(exited.failure().message(),
              HasSubstr("made no progress for 3s (TRAINING, after step 2, waiting for a disk)"));
}

TEST_F(AgentTest, ATrainerThatIsDoneAndDoesNotEndIsKilledAndWasDone) {
  StartAgent({"--hang-timeout", "1"});
  Run(ref_, {{"end", "linger"}});
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_FALSE(exited.has_failure()) << exited.DebugString();
  EXPECT_EQ(exited.local_ranks(0).signal(), SIGKILL);
  EXPECT_TRUE(fs::exists(agent_.output("job-a") + "/manifest.json"));
}

// ---- losing the coordinator

TEST_F(AgentTest, EndsGracefullyAtSigterm) {
  StartAgent();
  Run(ref_, {{"end", "wait"}});
  WaitForProgress(ref_);
  agent_.Signal(SIGTERM);
  const int status = agent_.Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_INFRA) << "to be run elsewhere";
  EXPECT_THAT(exited.failure().message(), HasSubstr("shut down"));
  EXPECT_TRUE(exited.worker_stopped()) << "and costs no restart";
  EXPECT_TRUE(coordinator_->last_heartbeat().draining()) << "or it would be offered here again";
}

TEST_F(AgentTest, ASecondAgentOnTheSameFolderIsRefused) {
  StartAgent();
  AgentProcess second(coordinator_->address(), agent_.data_dir());
  second.Start();
  const int status = second.Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kExitInvalidInput);
  EXPECT_THAT(second.Log(), HasSubstr("is in use by another liger-worker"));
}

TEST_F(AgentTest, ReportsItsInventoryWhenItChanges) {
  StartAgent();
  ASSERT_TRUE(MakeFolders(agent_.dir() + "/models/tiny").ok());
  ASSERT_TRUE(
      WriteFileAtomically(agent_.dir() + "/models/tiny/config.json", R"({"model_type": "llama"})")
          .ok());
  std::vector<worker::v1::InventoryItem> items;
  EXPECT_TRUE(coordinator_->WaitUntil([&] {
    const auto heartbeat = coordinator_->last_heartbeat();
    if (heartbeat.inventory_changed()) {
      items.assign(heartbeat.inventory().begin(), heartbeat.inventory().end());
    }
    return items.size() == 2;
  }));
  ASSERT_THAT(items, SizeIs(2));
  EXPECT_EQ(items[0].architecture(), "llama");
  EXPECT_THAT(items[0].uri(), testing::EndsWith("/models/tiny"));
  EXPECT_EQ(items[1].kind(), "code");
  EXPECT_EQ(items[1].digest(), FileStatesDigest({LIGER_FAKE_TRAINER})) << "what it would start";
}

TEST_F(AgentTest, LooksAtItsFilesWhenItIsAsked) {
  StartAgent();
  worker::v1::CoordinatorMessage message;
  message.mutable_look()->set_id(42);
  coordinator_->Send(message);
  EXPECT_TRUE(
      coordinator_->WaitUntil([&] { return coordinator_->last_heartbeat().looked() == 42; }));

  // Of the next coordinator, whose clock is behind, it has not answered one yet.
  RestartCoordinator();
  coordinator_->WaitForHello();
  coordinator_->WaitForHeartbeats(2);
  EXPECT_EQ(coordinator_->last_heartbeat().looked(), 0);
  message.mutable_look()->set_id(7);
  coordinator_->Send(message);
  EXPECT_TRUE(
      coordinator_->WaitUntil([&] { return coordinator_->last_heartbeat().looked() == 7; }));
}

TEST_F(AgentTest, DrainingTakesNothingNew) {
  StartAgent();
  worker::v1::CoordinatorMessage drain;
  drain.mutable_drain();
  coordinator_->Send(drain);
  coordinator_->Prepare(ref_, trainer::v1::TASK_KIND_TRAIN,
                        {coordinator_->WaitForHello().devices(0).uuid()});
  EXPECT_THAT(coordinator_->WaitForRefused(ref_).reason(), HasSubstr("draining"));
  EXPECT_FALSE(coordinator_->WaitForRefused(ref_).unfit());
}

}  // namespace
}  // namespace liger::agent
