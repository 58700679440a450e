// Logs and metric samples.

#include <signal.h>

#include <atomic>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::v1::JobStatus;
using liger::worker::v1::Chunk;
using liger::worker::v1::ChunkAck;

// One Ship stream about one task.
class Shipper {
 public:
  Shipper(Cluster* cluster, liger::trainer::v1::Ref ref)
      : stub_(FleetStub(cluster->coordinator().worker_address())), ref_(std::move(ref)) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    stream_ = stub_->Ship(&context_);
  }
  ~Shipper() {
    stream_->WritesDone();
    ChunkAck ack;
    while (stream_->Read(&ack)) {
    }
    stream_->Finish();
  }

  ChunkAck Resume() {
    Chunk chunk;
    chunk.mutable_resume();
    return Exchange(chunk);
  }
  ChunkAck Log(int64_t offset, const std::string& data) {
    Chunk chunk;
    chunk.mutable_log()->set_offset(offset);
    chunk.mutable_log()->set_data(data);
    return Exchange(chunk);
  }
  // Acknowledged once they are stored.
  ChunkAck Metrics(int64_t first_step, int64_t last_step) {
    return Exchange(MetricsChunk(first_step, last_step));
  }
  // Does not wait for an answer.
  void SendMetrics(int64_t first_step, int64_t last_step) {
    Send(MetricsChunk(first_step, last_step));
  }
  // False: the coordinator ended the stream.
  bool Receive(ChunkAck* ack) { return stream_->Read(ack); }

 private:
  static Chunk MetricsChunk(int64_t first_step, int64_t last_step) {
    Chunk chunk;
    for (int64_t step = first_step; step <= last_step; ++step) {
      auto* sample = chunk.mutable_metrics()->add_samples()->mutable_step();
      sample->set_step(step);
      sample->set_step_seconds(0.25);
      sample->set_tokens_total(step * 100);
      (*sample->mutable_values())["loss"] = 1.0 / static_cast<double>(step);
    }
    return chunk;
  }
  void Send(Chunk chunk) {
    *chunk.mutable_ref() = ref_;
    chunk.set_worker_id("w1");
    EXPECT_TRUE(stream_->Write(chunk));
  }
  ChunkAck Exchange(const Chunk& chunk) {
    Send(chunk);
    ChunkAck ack;
    EXPECT_TRUE(stream_->Read(&ack));
    return ack;
  }

  const std::unique_ptr<liger::worker::v1::Fleet::Stub> stub_;
  const liger::trainer::v1::Ref ref_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<Chunk, ChunkAck>> stream_;
};

// The losses of "job".
liger::v1::QueryMetricsResponse Query(Cluster* cluster, int64_t from, int64_t to) {
  liger::v1::QueryMetricsRequest request;
  request.set_job("job");
  request.set_from_step(from);
  request.set_to_step(to);
  request.add_names("loss");
  liger::v1::QueryMetricsResponse response;
  grpc::ClientContext context;
  const auto status = cluster->api().QueryMetrics(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

class ShipTest : public ::testing::Test {
 protected:
  void SetUp() override {
    worker_ = cluster_.MakeWorker();
    ASSERT_TRUE(worker_->Connect().ok());
    ASSERT_TRUE(cluster_.Submit("job").ok());
    ref_ = worker_->ExpectTrain().ref();
    worker_->SendStarted(ref_);
    cluster_.WaitFor("job", JobStatus::RUNNING);
  }

  liger::v1::QueryMetricsResponse Query(int64_t from, int64_t to) {
    return liger::testing::Query(&cluster_, from, to);
  }

  Cluster cluster_;
  std::unique_ptr<FakeWorker> worker_;
  liger::trainer::v1::Ref ref_;
};

TEST_F(ShipTest, LogsResumeWhereTheyAreStoredThrough) {
  {
    Shipper shipper(&cluster_, ref_);
    EXPECT_EQ(shipper.Resume().log_offset(), 0);
    EXPECT_EQ(shipper.Log(0, "hello ").log_offset(), 6);
    EXPECT_EQ(shipper.Log(6, "world").log_offset(), 11);
  }
  Shipper again(&cluster_, ref_);
  EXPECT_EQ(again.Resume().log_offset(), 11);
  EXPECT_EQ(again.Log(6, "world!").log_offset(), 12);
}

TEST_F(ShipTest, MetricsAreAcknowledgedOnceStoredAndReplaysAreDropped) {
  {
    Shipper shipper(&cluster_, ref_);
    EXPECT_EQ(shipper.Metrics(1, 10).through_step(), 10);
  }
  // What is acknowledged can be queried.
  EXPECT_EQ(Query(0, 0).points_size(), 10);
  Shipper again(&cluster_, ref_);
  EXPECT_EQ(again.Resume().through_step(), 10);
  EXPECT_EQ(again.Metrics(6, 15).through_step(), 15);
  const auto all = Query(0, 0);
  ASSERT_EQ(all.points_size(), 15);
  for (int i = 0; i < 15; ++i) EXPECT_EQ(all.points(i).step(), i + 1);
  const auto some = Query(3, 5);
  ASSERT_EQ(some.points_size(), 3);
  EXPECT_DOUBLE_EQ(some.points(0).values().at("loss"), 1.0 / 3);
  EXPECT_EQ(some.points(0).values_size(), 1);
}

TEST_F(ShipTest, BulkSurvivesARestartOfTheCoordinator) {
  {
    Shipper shipper(&cluster_, ref_);
    EXPECT_EQ(shipper.Log(0, "before").log_offset(), 6);
    EXPECT_EQ(shipper.Metrics(1, 4).through_step(), 4);
  }
  worker_->Disconnect();
  cluster_.StopCoordinator();
  cluster_.StartCoordinator();
  Shipper shipper(&cluster_, ref_);
  const ChunkAck ack = shipper.Resume();
  EXPECT_EQ(ack.log_offset(), 6);
  EXPECT_EQ(ack.through_step(), 4);
}

// Steps that are stored out of order would never be sent again.
TEST(ShipFailureTest, WhatFollowsAFailedCommitIsSentAgainWithIt) {
  std::atomic<bool> fail = false;
  Cluster cluster([&fail](Cluster::Options* options) {
    options->lease = {absl::Milliseconds(100), absl::Seconds(20), absl::Seconds(30),
                      absl::Seconds(60)};
    options->store.commit_delay = std::chrono::milliseconds(300);
    options->store.fail_commit = [&fail] {
      return fail.exchange(false) ? absl::UnavailableError("disk full") : absl::OkStatus();
    };
  });
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto ref = worker->ExpectTrain(absl::Seconds(20)).ref();
  worker->SendStarted(ref);
  cluster.WaitFor("job", JobStatus::RUNNING, absl::Seconds(20));
  {
    Shipper shipper(&cluster, ref);
    shipper.Resume();
    fail = true;
    shipper.SendMetrics(1, 10);
    absl::SleepFor(absl::Milliseconds(220));  // on the way to the disk
    shipper.SendMetrics(11, 20);
    ChunkAck ack;
    EXPECT_FALSE(shipper.Receive(&ack)) << "acknowledged through " << ack.through_step();
  }
  Shipper again(&cluster, ref);
  EXPECT_EQ(again.Resume().through_step(), 0);
  EXPECT_EQ(again.Metrics(1, 20).through_step(), 20);
  EXPECT_EQ(Query(&cluster, 0, 0).points_size(), 20) << "each step, once";
}

// However long steps wait for others to be stored with.
TEST(ShipEndTest, WhoSeesTheJobsEndFindsItsSteps) {
  Cluster cluster(
      [](Cluster::Options* options) { options->metrics_flush_interval = absl::Hours(1); });
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto ref = worker->ExpectTrain().ref();
  Shipper shipper(&cluster, ref);
  shipper.Resume();
  shipper.SendMetrics(1, 10);
  EXPECT_EQ(shipper.Log(0, "that came after them").log_offset(), 20);
  worker->Succeed(ref);
  cluster.WaitFor("job", JobStatus::SUCCEEDED);
  EXPECT_EQ(Query(&cluster, 0, 0).points_size(), 10);
  ChunkAck ack;
  EXPECT_TRUE(shipper.Receive(&ack));
  EXPECT_EQ(shipper.Metrics(11, 12).through_step(), 12) << "late, but at once";
}

// An agent that is shut down closes its session right after its last word.
TEST(ShipEndTest, AnExitCountsThoughItsSessionEndsWhileItsStepsAreStored) {
  std::atomic<bool> slow = false;
  Cluster cluster([&slow](Cluster::Options* options) {
    options->lease = {absl::Milliseconds(100), absl::Seconds(2), absl::Seconds(3),
                      absl::Seconds(30)};
    options->metrics_flush_interval = absl::Hours(1);
    options->store.fail_commit = [&slow] {
      if (slow) absl::SleepFor(absl::Milliseconds(400));
      return absl::OkStatus();
    };
  });
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto ref = worker->ExpectTrain().ref();
  worker->SendStarted(ref);
  cluster.WaitFor("job", JobStatus::RUNNING);
  Shipper shipper(&cluster, ref);
  shipper.Resume();
  shipper.SendMetrics(1, 10);
  EXPECT_EQ(shipper.Log(0, "that came after them").log_offset(), 20);
  slow = true;
  liger::worker::v1::TaskEvent event;
  event.mutable_exited()->add_local_ranks()->set_signal(SIGTERM);
  event.mutable_exited()->set_worker_stopped(true);
  worker->SendEvent(ref, event);
  absl::SleepFor(absl::Milliseconds(150));  // on the way to the disk
  worker->Disconnect();
  const auto job = cluster.WaitUntil("job", [](const liger::v1::Job& job) {
    return job.status().attempts(0).state() != "RUNNING";
  });
  slow = false;
  EXPECT_NE(job.status().attempts(0).state(), "LOST");
  EXPECT_EQ(job.status().restarts(), 0);
}

TEST_F(ShipTest, BulkOfUnknownTasksIsLetGo) {
  liger::trainer::v1::Ref unknown;
  unknown.set_job_uid("nobody");
  unknown.set_epoch(3);
  Shipper shipper(&cluster_, unknown);
  EXPECT_EQ(shipper.Log(0, "abc").log_offset(), 3);
  EXPECT_EQ(shipper.Metrics(1, 2).through_step(), 2);
  unknown.set_job_uid("../../etc");
  Shipper hostile(&cluster_, unknown);
  EXPECT_EQ(hostile.Log(0, "abc").log_offset(), 3);
}

}  // namespace
}  // namespace liger::testing
