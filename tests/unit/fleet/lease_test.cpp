// Lost workers, adoption, stale epochs, and a coordinator that was away.

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/errors/errors.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::server::LeaseTerms;
using liger::server::ReasonOf;
using liger::v1::Job;
using liger::v1::JobStatus;
using liger::worker::v1::CoordinatorMessage;
using liger::worker::v1::Verdict;
using liger::worker::v1::Welcome;

// Connects and returns the verdicts, by re-reading Welcome's effect: a STOP is
// also sent as a verdict, so tests look at Welcome itself.
std::vector<Verdict> ConnectForVerdicts(const std::string& address, const std::string& worker_id,
                                        int64_t incarnation,
                                        const std::vector<liger::worker::v1::OwnedTask>& owned) {
  auto stub = FleetStub(address);
  grpc::ClientContext context;
  auto stream = stub->Session(&context);
  liger::worker::v1::WorkerMessage message;
  auto* hello = message.mutable_hello();
  hello->set_worker_id(worker_id);
  hello->set_incarnation(incarnation);
  hello->set_protocol_min(1);
  hello->set_protocol_max(1);
  auto* device = hello->add_devices();
  device->set_uuid(worker_id + "-cpu-0");
  device->set_kind(liger::v1::DEVICE_KIND_CPU);
  hello->mutable_owned()->Assign(owned.begin(), owned.end());
  stream->Write(message);
  CoordinatorMessage answer;
  std::vector<Verdict> verdicts;
  if (stream->Read(&answer)) {
    verdicts.assign(answer.welcome().verdicts().begin(), answer.welcome().verdicts().end());
  }
  context.TryCancel();
  return verdicts;
}

TEST(LeaseTermsTest, MustBeInOrder) {
  EXPECT_TRUE(LeaseTerms().Validate().ok());
  EXPECT_FALSE(LeaseTerms{.fence = absl::Seconds(21)}.Validate().ok());
  EXPECT_FALSE(LeaseTerms{.heartbeat = absl::Seconds(16)}.Validate().ok());
  EXPECT_FALSE(LeaseTerms{.orphan_timeout = absl::Seconds(20)}.Validate().ok());
  EXPECT_FALSE(LeaseTerms{.heartbeat = absl::ZeroDuration()}.Validate().ok());
}

TEST(LeaseTest, ASilentWorkersJobRunsElsewhereAndItsDeviceStaysOccupied) {
  Cluster cluster;
  auto lost = cluster.MakeWorker({.worker_id = "w1"});
  ASSERT_TRUE(lost->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto first = lost->ExpectTrain();
  lost->SendStarted(first.ref());
  cluster.WaitFor("job", JobStatus::RUNNING);

  auto other = cluster.MakeWorker({.worker_id = "w2"});
  ASSERT_TRUE(other->Connect().ok());
  const absl::Time silent_since = absl::Now();
  lost->StopHeartbeats();
  EXPECT_EQ(ReasonOf(lost->WaitClosed()), "LEASE_EXPIRED");
  EXPECT_GE(absl::Now() - silent_since, absl::Milliseconds(700));

  const auto second = other->ExpectTrain();
  EXPECT_GT(second.ref().epoch(), first.ref().epoch());
  other->SendStarted(second.ref());
  Job job = cluster.WaitFor("job", JobStatus::RUNNING);
  EXPECT_EQ(job.status().restarts(), 1);
  ASSERT_EQ(job.status().attempts_size(), 2);
  EXPECT_EQ(job.status().attempts(1).state(), "LOST");

  // w1 comes back with its trainer: it is told to stop, and until that trainer
  // is gone nothing else starts on its device.
  const auto verdicts = ConnectForVerdicts(cluster.coordinator().worker_address(), "w1", 1,
                                           {lost->Owned(first.ref())});
  ASSERT_EQ(verdicts.size(), 1u);
  EXPECT_EQ(verdicts[0].action(), Verdict::STOP);
  ASSERT_TRUE(lost->Connect({lost->Owned(first.ref())}).ok());
  ASSERT_TRUE(cluster.Submit("next").ok());
  EXPECT_FALSE(lost->Take(CoordinatorMessage::kStart, absl::Milliseconds(500)).has_value());
  lost->SendCancelled(first.ref());
  EXPECT_EQ(lost->ExpectTrain().resolved_spec().name(), "next");

  // The stale exit did not touch the attempt that runs.
  other->SendPublish(second.ref(), "p1");
  other->Expect(CoordinatorMessage::kPublishGranted);
  other->SendExit(second.ref());
  cluster.WaitFor("job", JobStatus::SUCCEEDED);
}

TEST(LeaseTest, AStaleEpochIsToldToStopAndMayNotPublish) {
  Cluster cluster;
  auto lost = cluster.MakeWorker({.worker_id = "w1"});
  auto other = cluster.MakeWorker({.worker_id = "w2"});
  ASSERT_TRUE(lost->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto first = lost->ExpectTrain();
  lost->SendStarted(first.ref());
  cluster.WaitFor("job", JobStatus::RUNNING);
  ASSERT_TRUE(other->Connect().ok());
  lost->Disconnect();
  const auto second = other->ExpectTrain();
  other->SendStarted(second.ref());

  ASSERT_TRUE(lost->Connect({lost->Owned(first.ref())}).ok());
  lost->SendPublish(first.ref(), "stale");
  const auto denied = lost->Expect(CoordinatorMessage::kPublishDenied).publish_denied();
  EXPECT_EQ(denied.publication_id(), "stale");
  EXPECT_EQ(denied.reason(), "STALE_EPOCH");
  EXPECT_FALSE(lost->Take(CoordinatorMessage::kPublishGranted, absl::Milliseconds(300)));
  other->SendPublish(second.ref(), "p2");
  EXPECT_EQ(other->Expect(CoordinatorMessage::kPublishGranted).publish_granted().publication_id(),
            "p2");
}

TEST(LeaseTest, ABrokenConnectionWithinTheLeaseChangesNothing) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto start = worker->ExpectTrain();
  worker->SendStarted(start.ref());
  cluster.WaitFor("job", JobStatus::RUNNING);
  worker->Disconnect();
  absl::SleepFor(absl::Milliseconds(200));
  ASSERT_TRUE(worker->Connect({worker->Owned(start.ref())}).ok());
  worker->SendPublish(start.ref(), "p1");
  worker->Expect(CoordinatorMessage::kPublishGranted);
  worker->SendExit(start.ref());
  const Job job = cluster.WaitFor("job", JobStatus::SUCCEEDED);
  EXPECT_EQ(job.status().attempts_size(), 1);
  EXPECT_EQ(job.status().restarts(), 0);
}

TEST(LeaseTest, ARestartedAgentWithoutItsTrainerLosesTheAttemptAtOnce) {
  Cluster cluster;
  auto before = cluster.MakeWorker({.incarnation = 1});
  ASSERT_TRUE(before->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto first = before->ExpectTrain();
  before->SendStarted(first.ref());
  cluster.WaitFor("job", JobStatus::RUNNING);
  before->Disconnect();
  // The agent was killed and its trainer with it: nothing is owned.
  auto after = cluster.MakeWorker({.incarnation = 2});
  ASSERT_TRUE(after->Connect().ok());
  const auto second = after->ExpectTrain();
  EXPECT_GT(second.ref().epoch(), first.ref().epoch());
  after->Succeed(second.ref());
  EXPECT_EQ(cluster.WaitFor("job", JobStatus::SUCCEEDED).status().restarts(), 1);
}

TEST(LeaseTest, ASpooledExitIsReplayedAfterTheAgentsRestart) {
  Cluster cluster;
  auto before = cluster.MakeWorker({.incarnation = 1});
  ASSERT_TRUE(before->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto start = before->ExpectTrain();
  before->SendStarted(start.ref());
  before->SendPublish(start.ref(), "p1");
  before->Expect(CoordinatorMessage::kPublishGranted);
  before->Disconnect();
  auto after = cluster.MakeWorker({.incarnation = 2});
  ASSERT_TRUE(after->Connect({before->Owned(start.ref(), /*running=*/false)}).ok());
  liger::worker::v1::TaskEvent exit;
  exit.mutable_exited()->add_local_ranks();
  after->SendEvent(start.ref(), exit, 3);
  const Job job = cluster.WaitFor("job", JobStatus::SUCCEEDED);
  EXPECT_EQ(job.status().attempts_size(), 1);
}

TEST(LeaseTest, ARestartedCoordinatorAdoptsWhatRuns) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto start = worker->ExpectTrain();
  worker->SendStarted(start.ref());
  worker->SendProgress(start.ref(), 5, 1.0);
  cluster.WaitUntil("job", [](const Job& j) { return j.status().progress().step() == 5; });
  const auto owned = worker->Owned(start.ref());
  cluster.StopCoordinator();
  worker->Disconnect();
  // Longer than a lease: it counts against nobody.
  absl::SleepFor(absl::Seconds(1));
  cluster.StartCoordinator();
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ(cluster.Get("job")->status().state(), JobStatus::RUNNING);

  const auto verdicts =
      ConnectForVerdicts(cluster.coordinator().worker_address(), "w1", 1, {owned});
  ASSERT_EQ(verdicts.size(), 1u);
  EXPECT_EQ(verdicts[0].action(), Verdict::ADOPT);
  EXPECT_EQ(verdicts[0].ack_seq(), 2);

  auto again = cluster.MakeWorker();
  ASSERT_TRUE(again->Connect({owned}).ok());
  liger::worker::v1::TaskEvent publish;
  publish.mutable_publish_request()->mutable_saved()->set_publication_id("p1");
  publish.mutable_publish_request()->mutable_saved()->set_kind("model");
  publish.mutable_publish_request()->mutable_saved()->set_manifest_digest("sha256:" +
                                                                          std::string(64, 'a'));
  again->SendEvent(start.ref(), publish, 3);
  again->Expect(CoordinatorMessage::kPublishGranted);
  liger::worker::v1::TaskEvent exit;
  exit.mutable_exited()->add_local_ranks();
  again->SendEvent(start.ref(), exit, 4);
  const Job job = cluster.WaitFor("job", JobStatus::SUCCEEDED);
  EXPECT_EQ(job.status().attempts_size(), 1);
  EXPECT_EQ(job.status().restarts(), 0);
}

TEST(LeaseTest, AWorkerThatNeverComesBackAfterARestartIsLostAfterAFullLease) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  worker->SendStarted(worker->ExpectTrain().ref());
  cluster.WaitFor("job", JobStatus::RUNNING);
  cluster.StopCoordinator();
  worker->Disconnect();
  cluster.StartCoordinator();
  const absl::Time serving = absl::Now();
  cluster.WaitFor("job", JobStatus::RECOVERING);
  EXPECT_GE(absl::Now() - serving, absl::Milliseconds(600));
}

TEST(LeaseTest, TasksThatNobodyKnowsAreStopped) {
  Cluster cluster;
  liger::worker::v1::OwnedTask unknown;
  unknown.mutable_ref()->set_job_uid("nobody");
  unknown.mutable_ref()->set_epoch(9);
  unknown.mutable_ref()->set_task_id("nobody-9");
  unknown.set_running(true);
  const auto verdicts =
      ConnectForVerdicts(cluster.coordinator().worker_address(), "w1", 1, {unknown});
  ASSERT_EQ(verdicts.size(), 1u);
  EXPECT_EQ(verdicts[0].action(), Verdict::STOP);
  EXPECT_EQ(verdicts[0].ref().task_id(), "nobody-9");
}

}  // namespace
}  // namespace liger::testing
