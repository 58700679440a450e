// Checks, attempts and reports of running jobs.

#include "server/errors/errors.h"
#include "tests/unit/store/contract.h"

namespace liger::server::testing {
namespace {

using liger::v1::JobStatus;

class StoreRuns : public StoreWithWorkers {};
LIGER_STORE_CONTRACT(StoreRuns);

TEST_P(StoreRuns, AJobsWholeLife) {
  const int64_t epoch = driver->RunJob("u", "w1");
  EXPECT_EQ(epoch, 1);
  ReportTask progress = Report("w1", "u", epoch, "train", 2);
  progress.progress.emplace().set_step(5);
  progress.evaluations.emplace_back().set_step(5);
  progress.warnings.emplace_back().set_code("RowsDropped");
  driver->Do(progress);
  const ReportTask::Result published = driver->PublishModel("u", "w1", epoch, 3);
  ASSERT_TRUE(published.publish.has_value());
  EXPECT_TRUE(published.publish->granted);
  EXPECT_EQ(published.publish->output_uri, "file:///out/job-u");
  EXPECT_EQ(driver->State("u"), JobStatus::RUNNING);
  EXPECT_EQ(driver->Exit("u", "w1", epoch, 4, Succeeded()).acked_seq, 4);

  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::SUCCEEDED);
  EXPECT_EQ(job.status().output_uri(), "file:///out/job-u");
  EXPECT_EQ(job.status().progress().step(), 5);
  EXPECT_EQ(job.status().evaluations_size(), 1);
  EXPECT_EQ(job.status().attempts_size(), 1);
  EXPECT_EQ(job.status().attempts(0).state(), "SUCCEEDED");
  EXPECT_EQ(job.status().attempts(0).worker_id(), "w1");
  EXPECT_EQ(job.status().attempts(0).device_uuids(0), "w1-cpu-0");
  EXPECT_TRUE(job.has_start_time() && job.has_end_time());
  EXPECT_EQ(driver->Occupied("w1"), 0);

  driver->Read<int>([](const ReadView& view) {
    std::vector<std::string> story;
    int64_t seq = 0;
    for (const auto& event : view.Events("u", 0, 0)) {
      EXPECT_EQ(event.seq(), ++seq);  // I5
      story.push_back(event.type() == "StateChanged" ? JobStatus::State_Name(event.to_state())
                                                     : event.type());
    }
    EXPECT_EQ(story, (std::vector<std::string>{"Created", "QUEUED", "STARTING", "AttemptStarted",
                                               "RUNNING", "Warning", "Published", "AttemptEnded",
                                               "SUCCEEDED"}));
    EXPECT_EQ(view.Artifacts("default", "u").size(), 1u);
    EXPECT_EQ(view.Artifacts("default", "").at(0).digest, "sha256:abc");
    EXPECT_EQ(view.Artifacts("elsewhere", "").size(), 0u);
    return 0;
  });
}

TEST_P(StoreRuns, ACheckThatFindsSomethingFailsTheJob) {
  driver->Submit("u");
  driver->Do(AssignCheck{"u", "t", "w1"});
  EXPECT_FALSE(driver->Try(AssignCheck{"u", "t2", "w2"}).ok()) << "one check at a time";
  ReportTask report = Report("w1", "u", 0, "t", 1);
  report.check_result.emplace();
  report.check_failure.emplace();
  report.check_failure->set_class_(liger::v1::FAILURE_CLASS_DATA);
  report.check_failure->set_message("row 17 is not JSON");
  report.check_failure->set_action("fix the row");
  driver->Do(report);
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::FAILED);
  EXPECT_EQ(job.status().reason(), "BadData");
  EXPECT_EQ(job.status().message(), "row 17 is not JSON");
  EXPECT_EQ(job.status().action(), "fix the row");
  EXPECT_EQ(job.status().failure().class_(), liger::v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(driver->Do(report).acked_seq, 1) << "a replay changes nothing";
}

// What a check warns of is the job's, whatever attempt it is in, and is told once.
TEST_P(StoreRuns, ACheckWarns) {
  const auto warning = [](const std::string& message) {
    liger::v1::Warning of_rows;
    of_rows.set_code("Data");
    of_rows.set_message(message);
    return of_rows;
  };
  const auto warned = [&](const std::string& uid) {
    std::vector<std::string> said;
    const liger::v1::Job job = driver->Job(uid);
    for (const auto& one : job.status().warnings()) said.push_back(one.message());
    return said;
  };
  const auto check = [&](const std::string& uid, bool fails) {
    driver->Submit(uid);
    driver->Do(AssignCheck{uid, "check-" + uid, "w1"});
    ReportTask report = Report("w1", uid, 0, "check-" + uid, 1);
    *report.check_result.emplace().add_warnings() = warning("an answer is empty");
    if (fails) report.check_failure.emplace().set_class_(liger::v1::FAILURE_CLASS_DATA);
    driver->Do(report);
  };
  using Said = std::vector<std::string>;
  check("refused", /*fails=*/true);
  EXPECT_EQ(driver->State("refused"), JobStatus::FAILED);
  EXPECT_EQ(warned("refused"), (Said{"an answer is empty"}));

  check("u", /*fails=*/false);
  EXPECT_EQ(warned("u"), (Said{"an answer is empty"}));
  const int64_t epoch = driver->Place("u", "w1");
  EXPECT_EQ(warned("u"), (Said{"an answer is empty"}));
  driver->Begin("u", "w1", epoch);
  ReportTask same = Report("w1", "u", epoch, "train", 2);
  same.warnings = {warning("an answer is empty"), warning("a disk is full")};
  driver->Do(same);
  EXPECT_EQ(warned("u"), (Said{"an answer is empty", "a disk is full"}));
  driver->Exit("u", "w1", epoch, 3, Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true));
  driver->Place("u", "w1");
  EXPECT_EQ(warned("u"), (Said{"an answer is empty"})) << "a new attempt, from the beginning";
  driver->Read<int>([](const ReadView& view) {
    int events = 0;
    for (const auto& event : view.Events("u", 0, 0)) events += event.type() == "Warning";
    EXPECT_EQ(events, 2);
    return 0;
  });
}

TEST_P(StoreRuns, AKilledCheckIsRunAgainThenGivenUp) {
  driver->Submit("u");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(driver->State("u"), JobStatus::VALIDATING);
    const std::string task = "t" + std::to_string(i);
    driver->Do(AssignCheck{"u", task, "w1"});
    ReportTask report = Report("w1", "u", 0, task, 1);
    report.exit = Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true);
    driver->Do(report);
  }
  EXPECT_EQ(driver->State("u"), JobStatus::FAILED);
}

TEST_P(StoreRuns, ACheckThatItsStoppingWorkerEndsIsRunAgainAsOftenAsItTakes) {
  driver->Submit("u");
  for (int i = 0; i < 5; ++i) {
    const std::string task = "t" + std::to_string(i);
    driver->Do(AssignCheck{"u", task, "w1"});
    ReportTask report = Report("w1", "u", 0, task, 1);
    report.exit = Failed(liger::v1::FAILURE_CLASS_INFRA, "worker w1 was shut down", true);
    report.exit->worker_stopped = true;
    driver->Do(report);
    EXPECT_EQ(driver->State("u"), JobStatus::VALIDATING);
  }
}

TEST_P(StoreRuns, DevicesAreNeverGivenTwice) {  // I6
  driver->RunJob("a", "w1", 0);
  driver->Submit("b");
  driver->PassCheck("b", "w1");
  EXPECT_FALSE(driver->Try(StartAttempt{"b", {{"w1", {0}, {"w1-cpu-0"}}}}).ok()) << "occupied";
  EXPECT_FALSE(driver->Try(StartAttempt{"b", {{"w1", {0}, {"w2-cpu-0"}}}}).ok()) << "not w1's";
  EXPECT_FALSE(driver->Try(StartAttempt{"b", {{"w9", {0}, {"w9-cpu-0"}}}}).ok()) << "unknown";
  EXPECT_EQ(driver->State("b"), JobStatus::QUEUED);
  EXPECT_EQ(driver->Place("b", "w1", 1), 1);
  EXPECT_FALSE(driver->Try(StartAttempt{"b", {{"w2", {0}, {"w2-cpu-0"}}}}).ok()) << "placed";
}

TEST_P(StoreRuns, GangsAreAllOrNothing) {  // I7
  CreateJob pair = NewJob("u", "pair");
  pair.job.resolved_spec.mutable_resources()->set_count(2);
  driver->Do(pair);
  driver->PassCheck("u", "w1");
  const auto refused = [&](std::vector<MemberPlan> members) {
    EXPECT_FALSE(driver->Try(StartAttempt{"u", std::move(members)}).ok());
    EXPECT_EQ(driver->Occupied(""), 0);
    EXPECT_EQ(driver->State("u"), JobStatus::QUEUED);
  };
  refused({{"w1", {0}, {"w1-cpu-0"}}});                             // half a gang
  refused({{"w1", {0, 1}, {"w1-cpu-0", "w1-cpu-0"}}});              // one device twice
  refused({{"w1", {0}, {"w1-cpu-0"}}, {"w2", {1}, {"w2-cpu-9"}}});  // second half missing
  refused({{"w1", {0}, {"w1-cpu-0"}}, {"w1", {1}, {"w1-cpu-1"}}});  // a worker twice
  const auto started =
      driver->Do(StartAttempt{"u", {{"w1", {0}, {"w1-cpu-0"}}, {"w2", {1}, {"w2-cpu-0"}}}});
  EXPECT_EQ(started.members.size(), 2u);
  EXPECT_EQ(driver->Occupied(""), 2);
}

TEST_P(StoreRuns, ALostAttemptIsRunAgainUnderANewEpoch) {
  EXPECT_EQ(driver->RunJob("u", "w1"), 1);
  const TaskExit killed = Failed(liger::v1::FAILURE_CLASS_INFRA, "the trainer was killed", true);
  driver->Exit("u", "w1", 1, 2, killed);
  EXPECT_EQ(driver->State("u"), JobStatus::RECOVERING);
  EXPECT_EQ(driver->Job("u").status().restarts(), 1);
  EXPECT_EQ(driver->Place("u", "w2"), 2);
  driver->Begin("u", "w2", 2);
  driver->Exit("u", "w2", 2, 2, killed);
  EXPECT_EQ(driver->Place("u", "w1"), 3);
  driver->Begin("u", "w1", 3);
  driver->Exit("u", "w1", 3, 2, killed);
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::FAILED);
  EXPECT_EQ(job.status().reason(), "Infrastructure");
  EXPECT_EQ(job.status().message(), "the trainer was killed; given up after 2 restarts");
  EXPECT_EQ(job.status().attempts_size(), 3);
  EXPECT_EQ(job.status().attempts(0).epoch(), 3) << "newest first";
}

TEST_P(StoreRuns, AnAttemptThatItsStoppingWorkerEndsCostsNoRestart) {
  TaskExit stopped = Failed(liger::v1::FAILURE_CLASS_INFRA, "worker w1 was shut down", true);
  stopped.worker_stopped = true;
  int64_t epoch = driver->RunJob("u", "w1");
  for (int i = 0; i < 5; ++i) {  // more often than max_restarts
    driver->Exit("u", "w1", epoch, 2, stopped);
    ASSERT_EQ(driver->State("u"), JobStatus::RECOVERING);
    EXPECT_EQ(driver->Job("u").status().restarts(), 0);
    epoch = driver->Place("u", "w1");
    driver->Begin("u", "w1", epoch);
  }
  driver->Do(CancelJob{"default", "u"});
  driver->Exit("u", "w1", epoch, 2, stopped);
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLED);
}

TEST_P(StoreRuns, FailuresThatARetryCannotHelpAreFinal) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Exit("u", "w1", epoch, 2, Failed(liger::v1::FAILURE_CLASS_NAN, "loss is NaN", false));
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::FAILED);
  EXPECT_EQ(job.status().reason(), "NotFinite");
  EXPECT_EQ(job.status().restarts(), 0);
  EXPECT_EQ(driver->Occupied("w1"), 0);
}

TEST_P(StoreRuns, ASuccessWithoutAModelIsNoSuccess) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Exit("u", "w1", epoch, 2, Succeeded());
  EXPECT_EQ(driver->State("u"), JobStatus::RECOVERING);
}

TEST_P(StoreRuns, AnAttemptThatNeverRanCostsNoRestart) {
  driver->Submit("u");
  driver->PassCheck("u", "w1");
  const int64_t epoch = driver->Place("u", "w1");
  EXPECT_TRUE(driver->Do(AbandonAttempt{"w1", "u", epoch, "refused: busy"}).abandoned);
  EXPECT_EQ(driver->State("u"), JobStatus::QUEUED);
  EXPECT_EQ(driver->Job("u").status().restarts(), 0);
  EXPECT_EQ(driver->Occupied("w1"), 0);
  EXPECT_FALSE(driver->Do(AbandonAttempt{"w1", "u", epoch, "again"}).abandoned);
  const int64_t next = driver->Place("u", "w1");
  EXPECT_EQ(next, epoch + 1);
  driver->Begin("u", "w1", next);
  EXPECT_FALSE(driver->Do(AbandonAttempt{"w1", "u", next, "too late"}).abandoned);
  EXPECT_EQ(driver->State("u"), JobStatus::RUNNING);
}

TEST_P(StoreRuns, EventsApplyOnceAndWithoutGaps) {
  const int64_t epoch = driver->RunJob("u", "w1");
  ReportTask gap = Report("w1", "u", epoch, "train", 3);
  EXPECT_EQ(driver->Try(gap).status().code(), absl::StatusCode::kOutOfRange);
  ReportTask warning = Report("w1", "u", epoch, "train", 2);
  warning.warnings.emplace_back().set_code("Once");
  EXPECT_EQ(driver->Do(warning).acked_seq, 2);
  EXPECT_EQ(driver->Do(warning).acked_seq, 2);
  EXPECT_EQ(driver->Job("u").status().warnings_size(), 1);
  // A replay that reaches further than before.
  ReportTask more = Report("w1", "u", epoch, "train", 1);
  more.through_seq = 3;
  more.started = true;
  more.warnings = warning.warnings;
  EXPECT_EQ(driver->Do(more).acked_seq, 3);
  EXPECT_EQ(driver->Job("u").status().warnings_size(), 1);
}

TEST_P(StoreRuns, ANewAttemptForgetsWhatTheLastOneReported) {
  driver->RunJob("u", "w1");
  ReportTask progress = Report("w1", "u", 1, "train", 2);
  progress.progress.emplace().set_step(7);
  driver->Do(progress);
  driver->Exit("u", "w1", 1, 3, Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true));
  EXPECT_EQ(driver->Job("u").status().progress().step(), 7) << "shown while it recovers";
  driver->Place("u", "w1");
  EXPECT_EQ(driver->Job("u").status().progress().step(), 0);
}

TEST_P(StoreRuns, AStaleTasksExitCountsWhateverItsWorkerLetGo) {
  driver->RunJob("u", "w1");
  driver->Do(LoseWorker{"w1", 1});
  EXPECT_EQ(driver->Place("u", "w2"), 2);
  EXPECT_EQ(driver->Do(Report("w1", "u", 1, "train", 5)).acked_seq, 5);
  driver->Exit("u", "w1", 1, 9, {.outcome = AttemptState::kCancelled});
  EXPECT_EQ(driver->Occupied("w1"), 0);
}

TEST_P(StoreRuns, AReportWithoutAStepKeepsTheStep) {
  const int64_t epoch = driver->RunJob("u", "w1");
  ReportTask step = Report("w1", "u", epoch, "train", 2);
  step.progress.emplace().set_step(7);
  step.progress->set_phase("TRAINING");
  step.progress->set_tokens_total(700);
  (*step.progress->mutable_values())["loss"] = 1.5;
  driver->Do(step);
  // After a reconnect nothing is known but the phase that has just begun.
  ReportTask phase = Report("w1", "u", epoch, "train", 3);
  phase.progress.emplace().set_phase("SAVING");
  driver->Do(phase);
  const liger::v1::Progress progress = driver->Job("u").status().progress();
  EXPECT_EQ(progress.phase(), "SAVING");
  EXPECT_EQ(progress.step(), 7);
  EXPECT_EQ(progress.tokens_total(), 700);
  EXPECT_EQ(progress.values().at("loss"), 1.5);
}

TEST_P(StoreRuns, AReportOfNobodysTaskIsAcknowledgedAndStale) {
  const ReportTask::Result result = driver->Do(Report("w1", "nobody", 1, "train", 9));
  EXPECT_EQ(result.acked_seq, 9);
  EXPECT_TRUE(result.stale);
  driver->RunJob("u", "w1");
  EXPECT_TRUE(driver->Do(Report("w2", "u", 1, "train", 2)).stale) << "not w2's task";
  EXPECT_TRUE(driver->Do(Report("w1", "u", 0, "no-such-check", 1)).stale);
}

}  // namespace
}  // namespace liger::server::testing
