// Registration, incarnations and heartbeats.

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/api/status.h"
#include "server/errors/errors.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::server::ReasonOf;
using liger::worker::v1::CoordinatorMessage;
using liger::worker::v1::WorkerMessage;

TEST(SessionTest, WelcomeCarriesTermAndLease) {
  Cluster cluster;
  auto stub = FleetStub(cluster.coordinator().worker_address());
  grpc::ClientContext context;
  auto stream = stub->Session(&context);
  WorkerMessage hello;
  hello.mutable_hello()->set_worker_id("w1");
  hello.mutable_hello()->set_incarnation(1);
  hello.mutable_hello()->set_protocol_min(1);
  hello.mutable_hello()->set_protocol_max(3);
  ASSERT_TRUE(stream->Write(hello));
  CoordinatorMessage message;
  ASSERT_TRUE(stream->Read(&message));
  ASSERT_TRUE(message.has_welcome()) << message.ShortDebugString();
  const liger::worker::v1::Welcome& welcome = message.welcome();
  EXPECT_FALSE(welcome.session_id().empty());
  EXPECT_EQ(welcome.term(), cluster.coordinator().store().term());
  EXPECT_DOUBLE_EQ(welcome.lease().heartbeat_seconds(), 0.1);
  EXPECT_DOUBLE_EQ(welcome.lease().fence_seconds(), 0.5);
  EXPECT_DOUBLE_EQ(welcome.lease().reassign_seconds(), 0.8);
  EXPECT_DOUBLE_EQ(welcome.lease().orphan_timeout_seconds(), 5);
  EXPECT_GT(welcome.catalog_uris_size(), 0);
  context.TryCancel();
}

TEST(SessionTest, TheTermRisesWithEveryStart) {
  Cluster cluster;
  const int64_t first = cluster.coordinator().store().term();
  cluster.StopCoordinator();
  cluster.StartCoordinator();
  EXPECT_GT(cluster.coordinator().store().term(), first);
}

TEST(SessionTest, HeartbeatsAreAcknowledged) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  absl::SleepFor(absl::Milliseconds(400));
  EXPECT_GE(worker->heartbeats_acknowledged(), 3);
}

TEST(SessionTest, TheNewestIncarnationWins) {
  Cluster cluster;
  auto old_agent = cluster.MakeWorker({.incarnation = 1});
  auto new_agent = cluster.MakeWorker({.incarnation = 2});
  ASSERT_TRUE(old_agent->Connect().ok());
  ASSERT_TRUE(new_agent->Connect().ok());
  EXPECT_EQ(ReasonOf(old_agent->WaitClosed()), "STALE_INCARNATION");
  // And it stays out, while the newer one is served.
  EXPECT_EQ(ReasonOf(old_agent->Connect()), "STALE_INCARNATION");
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto start = new_agent->ExpectTrain();
  EXPECT_EQ(start.resolved_spec().name(), "job");
}

TEST(SessionTest, AReconnectOfTheSameIncarnationReplacesTheSession) {
  Cluster cluster;
  auto first = cluster.MakeWorker();
  auto second = cluster.MakeWorker();
  ASSERT_TRUE(first->Connect().ok());
  ASSERT_TRUE(second->Connect().ok());
  EXPECT_FALSE(first->WaitClosed().ok());
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_GE(second->heartbeats_acknowledged(), 1);
}

TEST(SessionTest, AGapInTheEventsEndsTheSessionAndTheReplayFillsIt) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto ref = worker->ExpectTrain().ref();
  worker->SendStarted(ref);
  cluster.WaitFor("job", liger::v1::JobStatus::RUNNING);
  liger::worker::v1::TaskEvent exit;
  exit.mutable_exited()->add_local_ranks();
  worker->SendEvent(ref, exit, 3);  // 2 was lost on the way
  EXPECT_EQ(worker->WaitClosed().code(), absl::StatusCode::kUnavailable);

  ASSERT_TRUE(worker->Connect({worker->Owned(ref, /*running=*/false)}).ok());
  liger::worker::v1::TaskEvent publish;
  auto* saved = publish.mutable_publish_request()->mutable_saved();
  saved->set_publication_id("p1");
  saved->set_kind("model");
  saved->set_manifest_digest("sha256:0");
  worker->SendEvent(ref, publish, 2);
  worker->SendEvent(ref, exit, 3);
  cluster.WaitFor("job", liger::v1::JobStatus::SUCCEEDED);
}

absl::Status StatusOfFirstMessage(Cluster* cluster, const WorkerMessage& message) {
  auto stub = FleetStub(cluster->coordinator().worker_address());
  grpc::ClientContext context;
  auto stream = stub->Session(&context);
  stream->Write(message);
  CoordinatorMessage answer;
  while (stream->Read(&answer)) {
  }
  return liger::server::FromGrpc(stream->Finish());
}

TEST(SessionTest, RefusesWhatItCannotSpeakWith) {
  Cluster cluster;
  WorkerMessage message;
  message.mutable_heartbeat()->set_seq(1);
  EXPECT_EQ(StatusOfFirstMessage(&cluster, message).code(), absl::StatusCode::kFailedPrecondition);
  message.mutable_hello()->set_worker_id("w1");
  message.mutable_hello()->set_incarnation(1);
  message.mutable_hello()->set_protocol_min(2);
  message.mutable_hello()->set_protocol_max(3);
  EXPECT_EQ(ReasonOf(StatusOfFirstMessage(&cluster, message)), "PROTOCOL_MISMATCH");
  message.mutable_hello()->set_protocol_min(1);
  message.mutable_hello()->clear_worker_id();
  EXPECT_EQ(StatusOfFirstMessage(&cluster, message).code(), absl::StatusCode::kInvalidArgument);
}

// PROTOCOL, Store: with commits delayed by 200 ms, heartbeats stay under 50 ms.
TEST(SessionTest, SlowCommitsDoNotDelayHeartbeats) {
  Cluster cluster([](Cluster::Options* options) {
    options->store.commit_delay = std::chrono::milliseconds(200);
    options->lease = {absl::Milliseconds(100), absl::Seconds(5), absl::Seconds(8),
                      absl::Seconds(30)};
  });
  auto worker = cluster.MakeWorker({.cpu_slots = 2, .heartbeat = absl::Milliseconds(20)});
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("a").ok());
  ASSERT_TRUE(cluster.Submit("b").ok());
  const auto start = worker->ExpectTrain(absl::Seconds(10));
  worker->SendStarted(start.ref());
  for (int step = 1; step <= 50; ++step) {
    worker->SendProgress(start.ref(), step, 1.0 / step);
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_GE(worker->heartbeats_acknowledged(), 50);
  EXPECT_LT(worker->worst_heartbeat(), absl::Milliseconds(50));
}

}  // namespace
}  // namespace liger::testing
