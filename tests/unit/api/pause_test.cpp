// Pausing and resuming jobs, over the API and the workers' protocol.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/errors/errors.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::server::ReasonOf;
using liger::trainer::v1::Ref;
using liger::v1::JobStatus;
using ::testing::HasSubstr;

class PauseTest : public ::testing::Test {
 protected:
  // A job that runs on the worker.
  Ref Run(const std::string& name) {
    EXPECT_TRUE(cluster_.Submit(name).ok());
    if (worker_ == nullptr) {
      worker_ = cluster_.MakeWorker();
      EXPECT_TRUE(worker_->Connect().ok());
    }
    const Ref ref = worker_->ExpectTrain().ref();
    worker_->SendStarted(ref);
    cluster_.WaitFor(name, JobStatus::RUNNING);
    return ref;
  }
  void ExpectAskedToPause() {
    EXPECT_TRUE(worker_->Expect(FakeWorker::Case::kControl).control().command().has_pause());
  }
  void ExpectRefused(const absl::StatusOr<liger::v1::Job>& answer, const std::string& reason,
                     const std::string& message) {
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(ReasonOf(answer.status()), reason);
    EXPECT_THAT(answer.status().message(), HasSubstr(message));
  }

  Cluster cluster_;
  std::unique_ptr<FakeWorker> worker_;
};

TEST_F(PauseTest, FreesTheDeviceAndGoesOnFromTheCheckpoint) {
  const Ref ref = Run("job");
  EXPECT_EQ(cluster_.Pause("job", "lunch")->status().state(), JobStatus::PAUSING);
  ExpectAskedToPause();
  ExpectRefused(cluster_.Resume("job"), "JOB_NOT_PAUSED", "resume it once it is PAUSED");
  EXPECT_EQ(cluster_.Pause("job")->status().state(), JobStatus::PAUSING) << "again";
  worker_->SendPublish(ref, "checkpoint-5", "checkpoint", 5);
  worker_->Expect(FakeWorker::Case::kPublishGranted);
  worker_->SendPaused(ref);
  const liger::v1::Job paused = cluster_.WaitFor("job", JobStatus::PAUSED);
  EXPECT_THAT(paused.status().message(), HasSubstr("job.checkpoints/checkpoint-5"));
  EXPECT_EQ(paused.status().action(), "liger-cli resume job");
  EXPECT_EQ(paused.status().attempts(0).state(), "PAUSED");
  EXPECT_EQ(cluster_.Delete("job").code(), absl::StatusCode::kFailedPrecondition);

  // Its device is another job's meanwhile.
  ASSERT_TRUE(cluster_.Submit("other").ok());
  worker_->Succeed(worker_->ExpectTrain().ref());
  cluster_.WaitFor("other", JobStatus::SUCCEEDED);

  EXPECT_EQ(cluster_.Resume("job")->status().state(), JobStatus::QUEUED);
  const auto start = worker_->ExpectTrain();
  EXPECT_EQ(start.ref().epoch(), 2);
  EXPECT_THAT(start.resume_from(), HasSubstr("job.checkpoints/checkpoint-5"));
  worker_->Succeed(start.ref());
  const liger::v1::Job done = cluster_.WaitFor("job", JobStatus::SUCCEEDED);
  EXPECT_EQ(done.status().restarts(), 0);
  ExpectRefused(cluster_.Pause("job"), "JOB_NOT_PAUSABLE", "it has ended (SUCCEEDED)");
  ExpectRefused(cluster_.Resume("job"), "JOB_NOT_PAUSED", "it cannot be resumed");
}

TEST_F(PauseTest, WhatWaitsIsHeldBackWithoutAWorker) {
  ASSERT_TRUE(cluster_.Submit("early").ok());
  ExpectRefused(cluster_.Pause("early"), "JOB_NOT_PAUSABLE", "pause it once it is QUEUED");
  ASSERT_TRUE(cluster_.Cancel("early").ok());
  const Ref ref = Run("job");
  ASSERT_TRUE(cluster_.Submit("next").ok());
  cluster_.WaitFor("next", JobStatus::QUEUED);
  EXPECT_EQ(cluster_.Pause("next")->status().state(), JobStatus::PAUSED);
  worker_->Succeed(ref);
  cluster_.WaitFor("job", JobStatus::SUCCEEDED);
  EXPECT_FALSE(worker_->Take(FakeWorker::Case::kStart, absl::Milliseconds(600))) << "of next";
  EXPECT_EQ(cluster_.Resume("next")->status().state(), JobStatus::QUEUED);
  EXPECT_EQ(worker_->ExpectTrain().ref().epoch(), 1);
  EXPECT_EQ(cluster_.Pause("nobody").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(cluster_.Pause("").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(PauseTest, ACancelComesFirst) {
  const Ref ref = Run("job");
  ASSERT_TRUE(cluster_.Pause("job").ok());
  ExpectAskedToPause();
  EXPECT_EQ(cluster_.Cancel("job")->status().state(), JobStatus::CANCELLING);
  ExpectRefused(cluster_.Pause("job"), "JOB_NOT_PAUSABLE", "it is CANCELLING");
  // It had paused just before.
  worker_->SendPaused(ref);
  cluster_.WaitFor("job", JobStatus::CANCELLED);

  const Ref other = Run("other");
  ASSERT_TRUE(cluster_.Pause("other").ok());
  worker_->SendPaused(other);
  cluster_.WaitFor("other", JobStatus::PAUSED);
  EXPECT_EQ(cluster_.Cancel("other")->status().state(), JobStatus::CANCELLED);
}

TEST_F(PauseTest, OutlivesARestartOfTheCoordinator) {
  const Ref ref = Run("job");
  ASSERT_TRUE(cluster_.Pause("job").ok());
  ExpectAskedToPause();
  const auto owned = worker_->Owned(ref);
  cluster_.StopCoordinator();
  worker_->Disconnect();
  cluster_.StartCoordinator();
  EXPECT_EQ(cluster_.Get("job")->status().state(), JobStatus::PAUSING);
  worker_ = cluster_.MakeWorker();
  ASSERT_TRUE(worker_->Connect({owned}).ok());
  ExpectAskedToPause();  // it may have been lost on the way
  liger::worker::v1::TaskEvent exited;
  exited.mutable_exited()->set_paused(true);
  worker_->SendEvent(ref, exited, owned.last_event_seq() + 1);
  cluster_.WaitFor("job", JobStatus::PAUSED);
}

}  // namespace
}  // namespace liger::testing
