// What a new attempt finds of the checkpoints of those before it, and does to them.

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "common/checkpoints.h"
#include "server/store/publications.h"
#include "tests/unit/store/visibility.h"

namespace liger::server::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// On disks of their own the second worker begins at step 0, behind what the first one had.
TEST_P(StoreVisibility, WhatTheLatestAttemptHasSavedIsNotRemovedForLaterStepsOfOthers) {
  RunJob();
  Publish(90);
  Publish(100);
  Ask(110);
  driver->Do(LoseWorker{"w1", 1});
  const int64_t first = epoch_;
  Begin("w2");
  Publish(10);
  EXPECT_THAT(Visible(), ElementsAre(10, 100));
  EXPECT_EQ(Newest(), absl::StrCat(kPlace, "checkpoint-100")) << "it may be seen again";
  Publish(20);
  EXPECT_THAT(Visible(), ElementsAre(10, 20));
  Publish(30);
  EXPECT_THAT(Visible(), ElementsAre(20, 30));
  // The first one tells of another that was there: it stays until the next one.
  TellLate("w1", first, 7, 110);
  EXPECT_THAT(Visible(), ElementsAre(20, 30, 110));
  Publish(40);
  EXPECT_THAT(Visible(), ElementsAre(30, 40));
}

TEST_P(StoreVisibility, AFolderThatWasSetAsideIsNotListedWhenItsWorkerTellsOfIt) {
  RunJob();
  Publish(10);
  Ask(20);
  driver->Do(LoseWorker{"w1", 1});
  const int64_t first = epoch_;
  Begin("w2");
  FindDamaged(20);
  TellLate("w1", first, 5, 20);
  EXPECT_EQ(Newest(), absl::StrCat(kPlace, "checkpoint-10"));
}

TEST_P(StoreVisibility, AnAttemptThatBeginsAgainAtStepZeroSaysWhy) {
  RunJob();
  EXPECT_THAT(Warnings(kBeganAgainCode), IsEmpty()) << "the first begins there";
  TakeSteps();
  driver->Do(LoseWorker{"w1", 1});
  Begin("w2");
  EXPECT_THAT(Warnings(kBeganAgainCode),
              ElementsAre("attempt 2 begins at step 0: the job has no checkpoint to go on from; it "
                          "saves one every 10 steps, and a lower training.save_steps would lose "
                          "less"));
  Ask(10);
  Tell(10, "No space left on device");
  driver->Do(ReconcileWorker{Telling("w1")});
  driver->Do(LoseWorker{"w2", 1});
  Begin("w1");
  EXPECT_THAT(Warnings(kBeganAgainCode),
              ElementsAre(AllOf(StartsWith("attempt 3 begins at step 0: no checkpoint of the job "
                                           "is there, as the checkpoint of step 10 could not be"),
                                HasSubstr("make room at the output of worker w2"))));
  ReportTask again = Next();  // with the kernels that ran
  again.ready.emplace();
  driver->Do(again);
  EXPECT_EQ(Events("Warning", kBeganAgainCode), 2) << "once for each";
}

TEST_P(StoreVisibility, CheckpointsThatWereNotSavedAreOneWarningAndToldOfTheNextBeginning) {
  RunJob();
  TakeSteps();
  for (const char* step : {"10", "20"}) {
    ReportTask report = Next();
    liger::v1::Warning& warning = report.warnings.emplace_back();
    warning.set_code(kNotSavedCode);
    warning.set_message(absl::StrCat("no checkpoint of step ", step, ": No space left on device"));
    driver->Do(report);
  }
  EXPECT_THAT(Warnings(kNotSavedCode), ElementsAre(HasSubstr("of step 20: No space")));
  driver->Do(LoseWorker{"w1", 1});
  Begin("w2");
  EXPECT_THAT(Warnings(kBeganAgainCode), ElementsAre(HasSubstr("No space left on device")));
}

TEST_P(StoreVisibility, AnAttemptThatBeginsAgainForDamageSaysSo) {
  RunJob();
  Publish(10);
  driver->Do(LoseWorker{"w1", 1});
  Begin("w2");
  FindDamaged(10);
  EXPECT_THAT(Warnings(kBeganAgainCode), IsEmpty()) << "its trainer has said it";
  driver->Do(ReconcileWorker{Telling("w1")});
  driver->Do(LoseWorker{"w2", 1});
  Begin("w1");
  EXPECT_THAT(Warnings(kBeganAgainCode),
              ElementsAre("attempt 3 begins at step 0: no good checkpoint of the job is there, the "
                          "one of step 10 was found damaged: check the disk that "
                          "/out/job-u.checkpoints/checkpoint-10.damaged lies on"));
}

TEST_P(StoreVisibility, AnAttemptAfterOneThatWasLoadingHasLostNothing) {
  RunJob();
  driver->Do(LoseWorker{"w1", 1});
  Begin("w2");
  EXPECT_THAT(Warnings(kBeganAgainCode), IsEmpty());
}

TEST_P(StoreVisibility, OnlyTheFirstRanksWorkerTellsWhereAGangBegins) {
  CreateJob command = NewJob("u", "job-u");
  command.job.resolved_spec.mutable_training()->set_save_steps(10);
  command.job.resolved_spec.mutable_resources()->set_count(2);
  driver->Do(command);
  driver->PassCheck("u", "w1");
  const StartAttempt gang{"u", {{"w1", {0}, {"w1-cpu-0"}}, {"w2", {1}, {"w2-cpu-0"}}}};
  epoch_ = driver->Do(gang).epoch;
  driver->Begin("u", "w1", epoch_);
  TakeSteps();
  driver->Do(LoseWorker{"w2", 1});
  for (const char* id : {"w1", "w2"}) driver->Do(ReconcileWorker{Telling(id)});
  epoch_ = driver->Do(gang).epoch;
  for (const char* id : {"w2", "w1"}) {
    ReportTask ready = Report(id, "u", epoch_, "train", 1);
    ready.ready.emplace();
    driver->Do(ready);
    EXPECT_EQ(Warnings(kBeganAgainCode).size(), id == std::string("w1") ? 1u : 0u);
  }
}

}  // namespace
}  // namespace liger::server::testing
