// What running jobs publish, and their cancel, which a publication may come before.

#include "tests/unit/store/contract.h"

namespace liger::server::testing {
namespace {

using liger::v1::JobStatus;

class StorePublications : public StoreWithWorkers {};
LIGER_STORE_CONTRACT(StorePublications);

TEST_P(StorePublications, AStaleEpochPublishesNothing) {  // I3
  driver->RunJob("u", "w1");
  driver->Do(LoseWorker{"w1", 1});
  EXPECT_EQ(driver->Place("u", "w2"), 2);
  const ReportTask::Result stale = driver->PublishModel("u", "w1", 1, 2);
  EXPECT_TRUE(stale.stale);
  ASSERT_TRUE(stale.publish.has_value());
  EXPECT_FALSE(stale.publish->granted);
  EXPECT_EQ(stale.publish->denied_reason, "STALE_EPOCH");
  EXPECT_EQ(
      driver->Read<size_t>([](const ReadView& v) { return v.Artifacts("default", "u").size(); }),
      0u);
  // Its devices stay occupied until it reports its exit.
  EXPECT_EQ(driver->Occupied("w1"), 1);
  driver->Exit("u", "w1", 1, 3, Failed(liger::v1::FAILURE_CLASS_INFRA, "stopped", true));
  EXPECT_EQ(driver->Occupied("w1"), 0);
  EXPECT_EQ(driver->State("u"), JobStatus::STARTING) << "the new attempt is untouched";
}

TEST_P(StorePublications, APublicationIsGrantedTheSameWayAgain) {
  const int64_t epoch = driver->RunJob("u", "w1");
  const auto first = driver->PublishModel("u", "w1", epoch, 2);
  const auto replayed = driver->PublishModel("u", "w1", epoch, 2);
  EXPECT_TRUE(replayed.publish->granted);
  EXPECT_EQ(replayed.publish->output_uri, first.publish->output_uri);
  ReportTask other = Report("w1", "u", epoch, "train", 3);
  other.publish = SavedModel("another");
  EXPECT_EQ(driver->Do(other).publish->denied_reason, "ALREADY_PUBLISHED");
  ReportTask no_digest = Report("w1", "u", epoch, "train", 4);
  no_digest.publish = SavedModel("third");
  no_digest.publish->clear_manifest_digest();
  EXPECT_EQ(driver->Do(no_digest).publish->denied_reason, "NO_DIGEST");
}

TEST_P(StorePublications, AGrantedModelThatCannotBeMadeVisibleIsWithdrawn) {
  const int64_t epoch = driver->RunJob("u", "w1");
  ASSERT_TRUE(driver->PublishModel("u", "w1", epoch, 2).publish->granted);
  TaskExit exit = Failed(liger::v1::FAILURE_CLASS_STORAGE, "no space left at /out/job-u", false);
  exit.unpublished = {"final"};
  driver->Exit("u", "w1", epoch, 3, exit);
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::FAILED);
  EXPECT_EQ(job.status().reason(), "Storage");
  EXPECT_EQ(job.status().message(), "no space left at /out/job-u");
  EXPECT_EQ(job.status().output_uri(), "");
  EXPECT_EQ(
      driver->Read<size_t>([](const ReadView& v) { return v.Artifacts("default", "u").size(); }),
      0u);
}

TEST_P(StorePublications, AModelThatALostWorkerCannotMakeVisibleIsWithdrawn) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->PublishModel("u", "w1", epoch, 2);
  driver->Do(LoseWorker{"w1", 1});
  ASSERT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
  TaskExit exit = Failed(liger::v1::FAILURE_CLASS_STORAGE, "no space left at /out/job-u", false);
  exit.unpublished = {"final"};
  driver->Exit("u", "w1", epoch, 3, exit);
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::SUCCEEDED) << "terminal states absorb";
  EXPECT_NE(job.status().message().find("could not make the model visible"), std::string::npos);
  EXPECT_EQ(job.status().output_uri(), "");
  EXPECT_EQ(
      driver->Read<size_t>([](const ReadView& v) { return v.Artifacts("default", "u").size(); }),
      0u);
}

TEST_P(StorePublications, AWorkerThatStopsBeforeItsGrantIsUsedLosesTheAttemptOnly) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->PublishModel("u", "w1", epoch, 2);
  TaskExit exit = Failed(liger::v1::FAILURE_CLASS_INFRA, "the worker was shut down", true);
  exit.unpublished = {"final"};
  driver->Exit("u", "w1", epoch, 3, exit);
  EXPECT_EQ(driver->State("u"), JobStatus::RECOVERING) << "nobody can find the model";
  const int64_t next = driver->Place("u", "w2");
  driver->Begin("u", "w2", next);
  EXPECT_TRUE(driver->PublishModel("u", "w2", next, 2).publish->granted);
  driver->Exit("u", "w2", next, 3, Succeeded());
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
}

TEST_P(StorePublications, ACommitBeatsALaterCancel) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->PublishModel("u", "w1", epoch, 2);
  const CancelJob::Result cancel = driver->Do(CancelJob{"default", "u"});
  EXPECT_TRUE(cancel.stops.empty());
  EXPECT_EQ(cancel.job.status().state(), JobStatus::RUNNING);
  // Whatever becomes of the process now.
  driver->Exit("u", "w1", epoch, 3, Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true));
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
}

TEST_P(StorePublications, ACancelBeatsALaterCommit) {
  const int64_t epoch = driver->RunJob("u", "w1");
  const CancelJob::Result cancel = driver->Do(CancelJob{"default", "u", "enough"});
  ASSERT_EQ(cancel.stops.size(), 1u);
  EXPECT_EQ(cancel.stops[0].worker_id, "w1");
  EXPECT_EQ(cancel.stops[0].ref.epoch(), epoch);
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLING);
  EXPECT_EQ(driver->PublishModel("u", "w1", epoch, 2).publish->denied_reason, "CANCELLED");
  driver->Exit("u", "w1", epoch, 3, {.outcome = AttemptState::kCancelled});
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::CANCELLED);
  EXPECT_EQ(job.status().message(), "cancelled on request: enough");
  EXPECT_EQ(driver->Occupied("w1"), 0);
}

TEST_P(StorePublications, AnOverdueCancelEndsTheJobButKeepsTheDevices) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Do(ForceCancel{"u", epoch});
  EXPECT_EQ(driver->State("u"), JobStatus::RUNNING) << "nobody asked to cancel";
  driver->Do(CancelJob{"default", "u"});
  driver->Do(ForceCancel{"u", epoch});
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLED);
  EXPECT_EQ(driver->Occupied("w1"), 1);
  driver->Exit("u", "w1", epoch, 2, {.outcome = AttemptState::kCancelled});
  EXPECT_EQ(driver->Occupied("w1"), 0);
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLED);
}

TEST_P(StorePublications, CancelBeforeTheStartFreesTheDevices) {
  driver->Submit("u");
  driver->PassCheck("u", "w1");
  const int64_t epoch = driver->Place("u", "w1");
  driver->Do(CancelJob{"default", "u"});
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLING);
  driver->Do(AbandonAttempt{"w1", "u", epoch, "aborted before its start"});
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLED);
  EXPECT_EQ(driver->Occupied("w1"), 0);
}

TEST_P(StorePublications, CancellingACheckStopsIt) {
  driver->Submit("u");
  driver->Do(AssignCheck{"u", "t", "w1"});
  const CancelJob::Result cancel = driver->Do(CancelJob{"default", "u"});
  ASSERT_EQ(cancel.stops.size(), 1u);
  EXPECT_EQ(cancel.stops[0].ref.task_id(), "t");
  ReportTask late = Report("w1", "u", 0, "t", 1);
  late.check_result.emplace();
  EXPECT_TRUE(driver->Do(late).stale);
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLED);
}

}  // namespace
}  // namespace liger::server::testing
