// What running jobs publish, and their cancel, which a publication may come before.

#include <algorithm>

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

// The message of the last event of that type; "" without one.
std::string LastOf(Driver& driver, const std::string& type) {
  return driver.Read<std::string>([&](const ReadView& view) {
    std::string message;
    for (const auto& event : view.Events("u", 0, 0)) {
      if (event.type() == type) message = event.message();
    }
    return message;
  });
}

TEST_P(StorePublications, AModelTellsWhichEvaluationItIsOf) {
  const int64_t epoch = driver->RunJob("u", "w1");
  ReportTask report = Report("w1", "u", epoch, "train", 2);
  report.publish = SavedModel("final");
  report.publish->set_step(40);
  report.publish->mutable_best()->set_step(40);
  report.publish->mutable_best()->set_metric("eval_loss");
  report.publish->mutable_best()->set_value(2.25);
  report.publish->mutable_best()->set_stopped_after_step(60);
  driver->Do(report);
  const auto status = driver->Job("u").status();
  EXPECT_EQ(status.saved_step(), 40);
  EXPECT_EQ(status.best().value(), 2.25);
  EXPECT_EQ(LastOf(*driver, "Published"),
            "file:///out/job-u (sha256:abc): step 40, of the best eval_loss (2.25); stopped early "
            "after step 60");
  // It never became visible.
  TaskExit exit = Failed(liger::v1::FAILURE_CLASS_STORAGE, "no space", false);
  exit.unpublished = {"final"};
  driver->Exit("u", "w1", epoch, 3, exit);
  EXPECT_EQ(driver->Job("u").status().saved_step(), 0);
  EXPECT_FALSE(driver->Job("u").status().has_best());
}

TEST_P(StorePublications, AnAttemptTellsOnceWhatItGoesOnFrom) {
  const auto begin = [&](int64_t epoch, int64_t seq, int64_t step) {
    ReportTask report = Report("w1", "u", epoch, "train", seq);
    report.started = true;
    report.ready.emplace();
    if (step > 0) {
      report.ready->mutable_resumed()->set_checkpoint("/out/checkpoint-" + std::to_string(step));
      report.ready->mutable_resumed()->set_step(step);
    }
    driver->Do(report);
  };
  driver->Submit("u");
  driver->PassCheck("u", "w1");
  const int64_t first = driver->Place("u", "w1");
  begin(first, 1, 20);
  const int64_t told = driver->Job("u").revision();
  begin(first, 2, 20);  // with the kernels that ran
  EXPECT_EQ(LastOf(*driver, "Resumed"), "goes on from /out/checkpoint-20, after step 20");
  const auto count = [&] {
    return driver->Read<int64_t>([](const ReadView& view) {
      const auto events = view.Events("u", 0, 0);
      return std::ranges::count(events, "Resumed", [](const auto& event) { return event.type(); });
    });
  };
  EXPECT_EQ(count(), 1);
  EXPECT_GT(driver->Job("u").revision(), told) << "the second report came in";
  EXPECT_EQ(driver->Job("u").status().resumed().step(), 20);
  driver->Exit("u", "w1", first, 3, Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true));
  const int64_t second = driver->Place("u", "w1", 0, "/out/checkpoint-40");
  EXPECT_FALSE(driver->Job("u").status().has_resumed()) << "not told yet";
  begin(second, 1, 40);
  EXPECT_EQ(driver->Job("u").status().resumed().checkpoint(), "/out/checkpoint-40");
  EXPECT_EQ(count(), 2);
  driver->Exit("u", "w1", second, 2, Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true));
  begin(driver->Place("u", "w1"), 1, 0);
  EXPECT_FALSE(driver->Job("u").status().has_resumed()) << "it began at the beginning";
  EXPECT_EQ(count(), 2);
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
