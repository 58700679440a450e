// Between the grant of a publication and what its worker tells of it.

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "common/checkpoints.h"
#include "server/store/publications.h"
#include "tests/unit/store/visibility.h"

namespace liger::server::testing {
namespace {

using liger::v1::JobStatus;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

LIGER_STORE_CONTRACT(StoreVisibility);

TEST_P(StoreVisibility, ACheckpointThatIsNotThereRemovesNoneThatIs) {
  RunJob();
  Publish(10);
  Publish(20);
  for (const int64_t step : {30, 40, 50}) {
    const ReportTask::Result asked = driver->Do(Request(step));
    EXPECT_TRUE(asked.publish->granted);
    EXPECT_THAT(asked.reclaims, IsEmpty());
    EXPECT_EQ(Newest(), absl::StrCat(kPlace, "checkpoint-20")) << "granted, and not there";
    EXPECT_THAT(Tell(step, absl::StrCat("cannot copy the result to /out/.checkpoint-", step,
                                        ".part: No space left on device"))
                    .reclaims,
                IsEmpty());
    EXPECT_THAT(Visible(), ElementsAre(10, 20));
  }
  // One warning, of the last.
  EXPECT_THAT(
      Warnings(kNotPublishedCode),
      ElementsAre("the checkpoint of step 50 could not be published: cannot copy the result to "
                  "/out/.checkpoint-50.part: No space left on device; the job goes on, but if its "
                  "worker is lost it begins again from /out/job-u.checkpoints/checkpoint-20: make "
                  "room at the output of worker w1"));
  EXPECT_EQ(Events("Warning", kNotPublishedCode), 1);
  EXPECT_EQ(Events("Published", "checkpoint"), 2);
  Tell(60, "the saved result is damaged: model.safetensors differs");
  EXPECT_EQ(Events("Warning", kNotPublishedCode), 2) << "another cause; it was never asked for";
  EXPECT_THAT(Warnings(kNotPublishedCode).back(),
              HasSubstr("checkpoint-20: check the disk of worker w1 that attempts write to"));

  EXPECT_TRUE(Ask(70)->granted);
  const ReportTask::Result there = Tell(70);
  ASSERT_EQ(there.reclaims.size(), 1u);
  EXPECT_EQ(there.reclaims[0].uri, absl::StrCat("file://", kPlace, "checkpoint-10"));
  EXPECT_THAT(Visible(), ElementsAre(20, 70));
  EXPECT_EQ(Newest(), absl::StrCat(kPlace, "checkpoint-70"));
  EXPECT_THAT(Warnings(kNotPublishedCode),
              ElementsAre("the checkpoint of step 50 could not be published: cannot copy the "
                          "result to /out/.checkpoint-50.part: No space left on device",
                          "the checkpoint of step 60 could not be published: the saved result is "
                          "damaged: model.safetensors differs"))
      << "they are not missed any more";
}

TEST_P(StoreVisibility, WhatWasToldBeforeHasNoEffectAgain) {
  RunJob();
  const ReportTask first = Request(10);
  driver->Do(first);
  const ReportTask told = Outcome(10);
  driver->Do(told);
  const int64_t revision = driver->Job("u").revision();
  driver->Do(told);
  EXPECT_EQ(driver->Job("u").revision(), revision);
  EXPECT_TRUE(driver->Do(first).publish->granted) << "the same answer";
  Publish(20);
  Publish(30);
  EXPECT_THAT(Visible(), ElementsAre(20, 30));
  // Asked for again, and told again: it was removed since.
  EXPECT_EQ(driver->Do(first).publish->denied_reason, "RETIRED");
  driver->Do(told);
  Tell(10);
  EXPECT_THAT(Visible(), ElementsAre(20, 30));
  Tell(30, "denied: as an agent says that has forgotten it");
  EXPECT_THAT(Visible(), ElementsAre(20, 30)) << "it was there";
}

TEST_P(StoreVisibility, AReplacedCheckpointCountsUntilTheNextIsThere) {
  RunJob();
  Publish(10);
  EXPECT_TRUE(Ask(20)->granted);
  driver->Do(LoseWorker{"w1", 1});
  const int64_t first = epoch_;
  Begin("w2");
  EXPECT_TRUE(Ask(10)->granted);
  EXPECT_EQ(Newest(), absl::StrCat(kPlace, "checkpoint-10"));
  Tell(10, "No space left on device");
  EXPECT_THAT(Visible(), ElementsAre(10));
  EXPECT_TRUE(Ask(20)->granted);
  Tell(20);
  // What the lost worker had made visible before, and what another one has replaced since.
  ReportTask late = Report("w1", "u", first, "train", 5);
  late.publication.emplace();
  late.publication->set_publication_id(CheckpointName(20));
  EXPECT_TRUE(driver->Do(late).stale);
  EXPECT_THAT(Visible(), ElementsAre(10, 20));
  EXPECT_EQ(Events("Published", "checkpoint"), 2);
}

TEST_P(StoreVisibility, ALostWorkersCheckpointIsListedWhenItComesBackAndTells) {
  RunJob();
  Ask(10);
  driver->Do(LoseWorker{"w1", 1});
  EXPECT_EQ(Newest(), "");
  const int64_t first = epoch_;
  Begin("w2");
  TellLate("w1", first, 3, 10);
  EXPECT_EQ(Newest(), absl::StrCat(kPlace, "checkpoint-10"));
}

TEST_P(StoreVisibility, AJobSucceedsWhenItsModelIsThere) {
  RunJob();
  ReportTask request = Request(0);
  request.publish->mutable_best()->set_metric("eval_loss");
  request.publish->mutable_best()->set_value(2.25);
  EXPECT_TRUE(driver->Do(request).publish->granted);
  EXPECT_EQ(driver->Job("u").status().output_uri(), "");
  EXPECT_EQ(Events("Published", "model"), 0);
  EXPECT_THAT(driver->Try(PauseJob{"default", "u"}).status().message(),
              HasSubstr("its model is being published"));
  Tell(0);
  EXPECT_THAT(driver->Try(PauseJob{"default", "u"}).status().message(),
              HasSubstr("its result exists already"));
  EXPECT_EQ(driver->Do(CancelJob{"default", "u"}).job.status().state(), JobStatus::RUNNING);
  EXPECT_EQ(driver->Job("u").status().output_uri(), "file:///out/job-u");
  EXPECT_EQ(driver->Job("u").status().best().value(), 2.25);
  EXPECT_EQ(driver->State("u"), JobStatus::RUNNING);
  driver->Do(LoseWorker{"w1", 1});
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
  EXPECT_EQ(Events("Published", "model"), 1);
}

TEST_P(StoreVisibility, ACancelBeatsAModelThatIsNotThere) {
  RunJob();
  EXPECT_TRUE(Ask(0)->granted);
  const CancelJob::Result cancel = driver->Do(CancelJob{"default", "u"});
  EXPECT_EQ(cancel.job.status().state(), JobStatus::CANCELLING);
  EXPECT_EQ(cancel.stops.size(), 1u);
  driver->Do(ForceCancel{"u", epoch_});  // the copy hangs
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLED);
  Tell(0);
  driver->Exit("u", "w1", epoch_, ++seq_, {.outcome = AttemptState::kCancelled});
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLED);
  EXPECT_EQ(driver->Job("u").status().attempts(0).failure_class(),
            liger::v1::FAILURE_CLASS_UNSPECIFIED);
  EXPECT_EQ(Events("Published", "model"), 0);
  // It has come to lie there, too late.
  EXPECT_EQ(driver->Do(DeleteJob{"default", "u", true}).reclaims.size(), 1u);
}

TEST_P(StoreVisibility, AModelThatIsThereFirstBeatsTheCancel) {
  RunJob();
  EXPECT_TRUE(Ask(0)->granted);
  driver->Do(CancelJob{"default", "u"});
  Tell(0);
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLING);
  driver->Exit("u", "w1", epoch_, ++seq_, {.outcome = AttemptState::kCancelled});
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
}

TEST_P(StoreVisibility, AnExitTellsOfWhatWasNotTold) {
  RunJob();
  Ask(10);
  Ask(0);
  driver->Exit("u", "w1", epoch_, ++seq_, Succeeded());
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
  EXPECT_EQ(driver->Job("u").status().output_uri(), "file:///out/job-u");
  EXPECT_THAT(Visible(), ElementsAre(0, 10));
}

TEST_P(StoreVisibility, AWorkerThatIsLostWithTheModelLosesTheAttempt) {
  RunJob();
  Publish(10);
  const ReportTask model = Request(0);
  driver->Do(model);
  driver->Do(LoseWorker{"w1", 1});
  EXPECT_EQ(driver->State("u"), JobStatus::RECOVERING);
  EXPECT_THAT(driver->Job("u").status().message(), HasSubstr("worker w1 stopped answering"));
  const int64_t first = epoch_;
  Begin("w2");
  EXPECT_THAT(Visible(), ElementsAre(10));

  // The first one comes back: nothing of it may appear beside the second.
  liger::worker::v1::Hello back = Telling("w1");
  Own(&back, "u", first, "train", /*running=*/false, model.through_seq);
  const ReconcileWorker::Result reconciled = driver->Do(ReconcileWorker{back});
  EXPECT_THAT(reconciled.grants, IsEmpty());
  EXPECT_EQ(reconciled.verdicts.at(0).action(), liger::worker::v1::Verdict::STOP);
  EXPECT_EQ(driver->Do(model).publish->denied_reason, "STALE_EPOCH");
  // It gives up what it had made visible, perhaps, and not noted.
  ReportTask denied = Report("w1", "u", first, "train", model.through_seq + 1);
  denied.publication.emplace();
  denied.publication->set_publication_id("final");
  denied.publication->set_error("denied: the coordinator no longer runs this attempt here");
  driver->Do(denied);
  TaskExit stopped{.outcome = AttemptState::kCancelled};
  stopped.unpublished = {"final"};
  driver->Exit("u", "w1", first, model.through_seq + 2, stopped);

  const std::optional<PublishAnswer> second = Ask(0);
  EXPECT_TRUE(second->granted);
  EXPECT_THAT(second->replaces, ElementsAre("sha256:1-0")) << "it was killed, perhaps too late";
  Tell(0);
  driver->Exit("u", "w2", epoch_, ++seq_, Succeeded());
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
  EXPECT_THAT(Visible(), ElementsAre(0, 10));
}

// As where its worker is shut down before it is answered again, after it was killed meanwhile.
TEST_P(StoreVisibility, AModelThatIsGivenUpStaysKnownWhileTheJobRunsAgain) {
  RunJob();
  Ask(0);
  Tell(0, "the task was stopped before");
  TaskExit stopped{.outcome = AttemptState::kCancelled};
  stopped.unpublished = {"final"};
  driver->Exit("u", "w1", epoch_, ++seq_, stopped);
  EXPECT_EQ(driver->State("u"), JobStatus::RECOVERING);
  Begin("w2");
  EXPECT_THAT(Ask(0)->replaces, ElementsAre("sha256:1-0"));
  // One that failed for good leaves nothing.
  Tell(0, "cannot copy the result: No space left on device");
  TaskExit full = Failed(liger::v1::FAILURE_CLASS_STORAGE, "No space left on device", false);
  full.unpublished = {"final"};
  driver->Exit("u", "w2", epoch_, ++seq_, full);
  EXPECT_EQ(driver->State("u"), JobStatus::FAILED);
  const auto left = driver->Do(DeleteJob{"default", "u", true}).reclaims;
  EXPECT_THAT(left, ElementsAre(::testing::Field(&ReclaimRow::digest, "sha256:1-0")));
}

TEST_P(StoreVisibility, AWorkerThatComesBackInTimeBringsTheModel) {
  RunJob();
  const ReportTask model = Request(0);
  driver->Do(model);
  driver->Do(LoseWorker{"w1", 1});
  liger::worker::v1::Hello back = Telling("w1");
  Own(&back, "u", epoch_, "train", /*running=*/false, model.through_seq);
  EXPECT_EQ(driver->Do(ReconcileWorker{back}).grants.size(), 1u);
  EXPECT_EQ(driver->State("u"), JobStatus::RUNNING);
  Tell(0);
  driver->Exit("u", "w1", epoch_, ++seq_, Succeeded());
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
  EXPECT_EQ(driver->Job("u").status().restarts(), 0);
}

TEST_P(StoreVisibility, AGangWaitsForItsModelWhateverBecomesOfTheOthers) {
  enum class Other { kLost, kRestarted, kFailed };
  enum class Model { kArrives, kDenied, kNoRoom };
  for (const Other other : {Other::kLost, Other::kRestarted, Other::kFailed}) {
    for (const Model model : {Model::kArrives, Model::kDenied, Model::kNoRoom}) {
      SetUp();
      const std::string uid = absl::StrCat("u-", static_cast<int>(other), static_cast<int>(model));
      SCOPED_TRACE(uid);
      CreateJob command = NewJob(uid, "job-" + uid);
      command.job.resolved_spec.mutable_resources()->set_count(2);
      driver->Do(command);
      driver->PassCheck(uid, "w1");
      const int64_t epoch =
          driver->Do(StartAttempt{uid, {{"w1", {0}, {"w1-cpu-0"}}, {"w2", {1}, {"w2-cpu-0"}}}})
              .epoch;
      driver->Begin(uid, "w1", epoch);
      driver->Begin(uid, "w2", epoch);
      EXPECT_TRUE(driver->PublishModel(uid, "w1", epoch, 2).publish->granted);
      if (other == Other::kLost) {
        EXPECT_THAT(driver->Do(LoseWorker{"w2", 1}).stops, IsEmpty());
      } else if (other == Other::kRestarted) {
        EXPECT_THAT(driver->Do(ReconcileWorker{Telling("w2")}).stops, IsEmpty());
      } else {
        const TaskExit killed = Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true);
        const ReportTask::Result exited = driver->Exit(uid, "w2", epoch, 2, killed);
        EXPECT_THAT(exited.stops, IsEmpty());
        EXPECT_FALSE(exited.gang_broken);
        driver->Do(SettleGang{uid, epoch});
      }
      EXPECT_EQ(driver->State(uid), JobStatus::RUNNING);
      ReportTask told = Report("w1", uid, epoch, "train", 3);
      told.publication.emplace();
      told.publication->set_publication_id("final");
      if (model == Model::kDenied) told.publication->set_error("denied");
      if (model == Model::kNoRoom) told.publication->set_error("No space left on device");
      driver->Do(told);
      TaskExit exit = Succeeded();
      if (model == Model::kNoRoom) {
        exit = Failed(liger::v1::FAILURE_CLASS_STORAGE, "No space left on device", false);
      }
      if (model != Model::kArrives) exit.unpublished = {"final"};
      driver->Exit(uid, "w1", epoch, 4, exit);
      EXPECT_EQ(driver->State(uid), model == Model::kArrives  ? JobStatus::SUCCEEDED
                                    : model == Model::kDenied ? JobStatus::RECOVERING
                                                              : JobStatus::FAILED);
      if (model != Model::kNoRoom) continue;
      EXPECT_THAT(driver->Job(uid).status().failure().message(),
                  HasSubstr("No space left on device"));
    }
  }
}

}  // namespace
}  // namespace liger::server::testing
