// Cancelling, and its race with publication.

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::v1::Job;
using liger::v1::JobStatus;
using liger::worker::v1::CoordinatorMessage;

class CancelTest : public ::testing::Test {
 protected:
  // A job that runs on `worker_`.
  liger::trainer::v1::Ref RunJob(const std::string& name) {
    if (worker_ == nullptr) {
      worker_ = cluster_.MakeWorker();
      EXPECT_TRUE(worker_->Connect().ok());
    }
    EXPECT_TRUE(cluster_.Submit(name).ok());
    const auto start = worker_->ExpectTrain();
    worker_->SendStarted(start.ref());
    cluster_.WaitFor(name, JobStatus::RUNNING);
    return start.ref();
  }

  Cluster cluster_{[](Cluster::Options* options) {
    options->jobs.stop_grace_seconds = 0.3;
    options->jobs.cancel_deadline_seconds = 1;
  }};
  std::unique_ptr<FakeWorker> worker_;
};

TEST_F(CancelTest, AWaitingJobIsCancelledAtOnce) {
  ASSERT_TRUE(cluster_.Submit("job").ok());
  const auto job = cluster_.Cancel("job");
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->status().state(), JobStatus::CANCELLED);
  // Idempotent.
  EXPECT_EQ(cluster_.Cancel("job")->status().state(), JobStatus::CANCELLED);
}

TEST_F(CancelTest, ARunningJobIsStoppedWithGrace) {
  const auto ref = RunJob("job");
  EXPECT_EQ(cluster_.Cancel("job")->status().state(), JobStatus::CANCELLING);
  const auto control = worker_->Expect(CoordinatorMessage::kControl).control();
  EXPECT_EQ(control.ref().task_id(), ref.task_id());
  EXPECT_DOUBLE_EQ(control.command().stop().grace_seconds(), 0.3);
  EXPECT_FALSE(control.command().command_id().empty());
  worker_->SendCancelled(ref);
  cluster_.WaitFor("job", JobStatus::CANCELLED);
  // The device is free again.
  RunJob("next");
}

TEST_F(CancelTest, AWorkerThatDoesNotAnswerCannotKeepTheJobAlive) {
  const auto ref = RunJob("job");
  ASSERT_TRUE(cluster_.Cancel("job").ok());
  cluster_.WaitFor("job", JobStatus::CANCELLED, absl::Seconds(3));
  // But its device is not given away before it reports.
  ASSERT_TRUE(cluster_.Submit("next").ok());
  EXPECT_FALSE(worker_->Take(CoordinatorMessage::kStart, absl::Milliseconds(500)).has_value());
  worker_->SendCancelled(ref);
  worker_->ExpectTrain();
}

TEST_F(CancelTest, ACommitBeatsALaterCancel) {
  const auto ref = RunJob("job");
  worker_->SendPublish(ref, "p1");
  worker_->Expect(CoordinatorMessage::kPublishGranted);
  EXPECT_EQ(cluster_.Cancel("job")->status().state(), JobStatus::RUNNING);
  worker_->SendExit(ref);
  cluster_.WaitFor("job", JobStatus::SUCCEEDED);
}

TEST_F(CancelTest, ACancelBeatsALaterPublication) {
  const auto ref = RunJob("job");
  ASSERT_TRUE(cluster_.Cancel("job").ok());
  worker_->SendPublish(ref, "p1");
  const auto denied = worker_->Expect(CoordinatorMessage::kPublishDenied).publish_denied();
  EXPECT_EQ(denied.publication_id(), "p1");
  EXPECT_EQ(denied.reason(), "CANCELLED");
  worker_->SendCancelled(ref);
  const Job job = cluster_.WaitFor("job", JobStatus::CANCELLED);
  EXPECT_TRUE(job.status().output_uri().empty());
}

// Whichever comes first, the two never both win.
TEST_F(CancelTest, TheRaceHasOneWinner) {
  for (int round = 0; round < 20; ++round) {
    const std::string name = "race-" + std::to_string(round);
    const auto ref = RunJob(name);
    std::thread canceller([&] { EXPECT_TRUE(cluster_.Cancel(name).ok()); });
    worker_->SendPublish(ref, "p1");
    const bool granted =
        worker_->Take(CoordinatorMessage::kPublishGranted, absl::Milliseconds(200)).has_value();
    canceller.join();
    if (granted) {
      worker_->SendExit(ref);
    } else {
      worker_->Expect(CoordinatorMessage::kPublishDenied);
      worker_->SendCancelled(ref);
    }
    const Job job = cluster_.WaitFor(name, granted ? JobStatus::SUCCEEDED : JobStatus::CANCELLED);
    EXPECT_EQ(job.status().output_uri().empty(), !granted);
  }
}

TEST_F(CancelTest, AGrantIsRepeatedForAReplay) {
  const auto ref = RunJob("job");
  worker_->SendPublish(ref, "p1");
  const auto first = worker_->Expect(CoordinatorMessage::kPublishGranted).publish_granted();
  // The grant was lost with the connection: the replayed request gets it again.
  worker_->Disconnect();
  ASSERT_TRUE(worker_->Connect({worker_->Owned(ref)}).ok());
  const auto second = worker_->Expect(CoordinatorMessage::kPublishGranted).publish_granted();
  EXPECT_EQ(first.output_uri(), second.output_uri());
}

}  // namespace
}  // namespace liger::testing
