// Gangs that break, pauses, and devices that fail.

#include "server/errors/errors.h"
#include "tests/unit/store/contract.h"

namespace liger::server::testing {
namespace {

using liger::v1::JobStatus;

class StoreGangs : public StoreContract {
 protected:
  void SetUp() override {
    StoreContract::SetUp();
    AddWorker("w1", 2);
    AddWorker("w2", 2);
  }
  // Ranks 0 and 1 on w1, 2 and 3 on w2; RUNNING, event 1 of each is known.
  int64_t RunGang(const std::string& uid) {
    CreateJob command = NewJob(uid, "job-" + uid);
    command.job.resolved_spec.mutable_resources()->set_count(4);
    driver->Do(command);
    driver->PassCheck(uid, "w1");
    return Start(uid);
  }
  int64_t Place(const std::string& uid) {
    return driver
        ->Do(StartAttempt{uid,
                          {{"w1", {0, 1}, {"w1-cpu-0", "w1-cpu-1"}},
                           {"w2", {2, 3}, {"w2-cpu-0", "w2-cpu-1"}}}})
        .epoch;
  }
  int64_t Start(const std::string& uid) {
    const int64_t epoch = Place(uid);
    driver->Begin(uid, "w1", epoch);
    driver->Begin(uid, "w2", epoch);
    return epoch;
  }
  static TaskExit Fails(liger::v1::FailureClass failure_class, const std::string& message,
                        bool retry, int rank) {
    TaskExit exit = Failed(failure_class, message, retry);
    exit.failure.set_first_failed_rank(rank);
    return exit;
  }
  static TaskExit LostPeer(int blames) {
    return Fails(liger::v1::FAILURE_CLASS_INFRA, "lost a peer", true, blames);
  }
  static TaskExit Stopped() { return {.outcome = AttemptState::kCancelled}; }
};
LIGER_STORE_CONTRACT(StoreGangs);

TEST_P(StoreGangs, AreShownWithTheirWorkersAndRanks) {
  RunGang("u");
  const liger::v1::Job job = driver->Job("u");
  const liger::v1::Attempt& attempt = job.status().attempts(0);
  ASSERT_EQ(attempt.members_size(), 2);
  EXPECT_EQ(attempt.members(1).worker_id(), "w2");
  EXPECT_EQ(attempt.members(1).ranks(0), 2);
  EXPECT_EQ(attempt.members(1).device_uuids(1), "w2-cpu-1");
  EXPECT_EQ(attempt.device_uuids_size(), 4);
}

TEST_P(StoreGangs, EachWorkerTellsOfItsRanks) {
  const int64_t epoch = RunGang("u");
  const auto report = [&](const std::string& worker, int64_t seq, int rank, int64_t bytes) {
    ReportTask told = Report(worker, "u", epoch, "train", seq);
    told.progress.emplace();
    if (rank == 0) told.progress->set_step(7);
    auto* progress = told.progress->add_ranks();
    progress->set_rank(rank);
    (*progress->mutable_peak_memory_bytes())["rss"] = bytes;
    driver->Do(told);
  };
  report("w1", 2, 0, 100);
  report("w2", 2, 2, 300);
  report("w1", 3, 0, 200);
  const liger::v1::Progress progress = driver->Job("u").status().progress();
  EXPECT_EQ(progress.step(), 7);
  ASSERT_EQ(progress.ranks_size(), 2);
  EXPECT_EQ(progress.ranks(0).peak_memory_bytes().at("rss"), 200);
  EXPECT_EQ(progress.ranks(1).peak_memory_bytes().at("rss"), 300);
  EXPECT_EQ(progress.peak_memory_bytes().at("rss"), 300) << "of the largest rank";
}

TEST_P(StoreGangs, EndWellWithTheirLastMember) {
  const int64_t epoch = RunGang("u");
  EXPECT_TRUE(driver->Exit("u", "w2", epoch, 2, Succeeded()).stops.empty());
  EXPECT_EQ(driver->State("u"), JobStatus::RUNNING);
  driver->PublishModel("u", "w1", epoch, 2);
  driver->Exit("u", "w1", epoch, 3, Succeeded());
  EXPECT_EQ(driver->State("u"), JobStatus::SUCCEEDED);
  EXPECT_EQ(driver->Occupied(""), 0);
}

TEST_P(StoreGangs, AllRanksOfOneThatSucceededHaveDoneItsLastStep) {
  const int64_t epoch = RunGang("u");
  ReportTask told = Report("w1", "u", epoch, "train", 2);
  told.progress.emplace();
  told.progress->set_step(40);
  told.progress->add_ranks()->set_step(37);  // its last sign of life
  driver->Do(told);
  driver->Exit("u", "w2", epoch, 2, Succeeded());
  driver->PublishModel("u", "w1", epoch, 3);
  // It is there; what ends the trainer then is no failure of the attempt.
  driver->Exit("u", "w1", epoch, 4, Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true));
  const liger::v1::JobStatus status = driver->Job("u").status();
  ASSERT_EQ(status.state(), JobStatus::SUCCEEDED);
  EXPECT_EQ(status.progress().ranks(0).step(), 40);
  EXPECT_FALSE(status.attempts(0).has_first_failed_rank());
  EXPECT_EQ(status.attempts(0).failure_class(), liger::v1::FAILURE_CLASS_UNSPECIFIED);
}

TEST_P(StoreGangs, TheFirstToTellIsNotTheCauseWhenItOnlyLostAPeer) {
  const int64_t epoch = RunGang("u");
  const ReportTask::Result broken = driver->Exit("u", "w1", epoch, 2, LostPeer(3));
  EXPECT_TRUE(broken.gang_broken);
  ASSERT_EQ(broken.stops.size(), 1u);
  EXPECT_EQ(broken.stops[0].worker_id, "w2");
  EXPECT_EQ(driver->State("u"), JobStatus::RUNNING) << "until the other has told its end";
  driver->Exit("u", "w2", epoch, 2,
               Fails(liger::v1::FAILURE_CLASS_NAN, "the loss is not finite", false, 3));
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::FAILED);
  EXPECT_EQ(job.status().failure().class_(), liger::v1::FAILURE_CLASS_NAN);
  EXPECT_EQ(job.status().failure().first_failed_rank(), 3);
  EXPECT_EQ(job.status().message(), "rank 3: the loss is not finite");
  EXPECT_EQ(job.status().attempts(0).first_failed_rank(), 3);
  EXPECT_EQ(driver->Occupied(""), 0);
}

TEST_P(StoreGangs, OneThatFailsStopsTheOthersAndIsRunAgain) {
  const int64_t epoch = RunGang("u");
  driver->Exit("u", "w2", epoch, 2,
               Fails(liger::v1::FAILURE_CLASS_INFRA, "the trainer of rank 2 was killed", true, 2));
  driver->Exit("u", "w1", epoch, 2, Stopped());
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::RECOVERING);
  EXPECT_EQ(job.status().restarts(), 1);
  EXPECT_NE(job.status().message().find("lost: the trainer of rank 2 was killed"),
            std::string::npos);
  EXPECT_EQ(Start("u"), epoch + 1);
}

TEST_P(StoreGangs, AMemberThatTellsNothingDoesNotHoldUpTheEnd) {
  const int64_t epoch = RunGang("u");
  driver->Do(SettleGang{"u", epoch});
  EXPECT_EQ(driver->State("u"), JobStatus::RUNNING) << "it is not broken";
  driver->Exit("u", "w1", epoch, 2, LostPeer(2));
  driver->Do(SettleGang{"u", epoch});
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::RECOVERING);
  EXPECT_NE(job.status().message().find("worker w2 has not told its end"), std::string::npos);
  EXPECT_EQ(driver->Occupied("w2"), 1) << "it may still run";
  driver->Exit("u", "w2", epoch, 2, Stopped());
  EXPECT_EQ(driver->Occupied("w2"), 0);
}

TEST_P(StoreGangs, ALostWorkerIsTheCauseUnlessAnotherHadFailedByItself) {
  int64_t epoch = RunGang("u");
  driver->Exit("u", "w1", epoch, 2, LostPeer(2));
  const LoseWorker lose{.worker_id = "w2", .incarnation = 1};
  driver->Do(lose);
  EXPECT_NE(driver->Job("u").status().message().find("worker w2 stopped answering"),
            std::string::npos);
  EXPECT_EQ(driver->Job("u").status().attempts(0).first_failed_rank(), 2) << "as w1 told";

  AddWorker("w3", 2);
  CreateJob command = NewJob("v", "job-v");
  command.job.resolved_spec.mutable_resources()->set_count(3);
  driver->Do(command);
  driver->PassCheck("v", "w1");
  epoch = driver
              ->Do(StartAttempt{
                  "v", {{"w1", {0, 1}, {"w1-cpu-0", "w1-cpu-1"}}, {"w3", {2}, {"w3-cpu-0"}}}})
              .epoch;
  driver->Begin("v", "w1", epoch);
  driver->Begin("v", "w3", epoch);
  driver->Exit("v", "w1", epoch, 2, Fails(liger::v1::FAILURE_CLASS_DATA, "bad row", false, 1));
  driver->Do(LoseWorker{.worker_id = "w3", .incarnation = 1});
  EXPECT_EQ(driver->State("v"), JobStatus::FAILED);
  EXPECT_EQ(driver->Job("v").status().message(), "rank 1: bad row");
}

TEST_P(StoreGangs, WhatWasNotStartedEverywhereIsStoppedWhereItWas) {
  CreateJob command = NewJob("u", "job-u");
  command.job.resolved_spec.mutable_resources()->set_count(2);
  driver->Do(command);
  driver->PassCheck("u", "w1");
  const StartAttempt start{"u", {{"w1", {0}, {"w1-cpu-0"}}, {"w2", {1}, {"w2-cpu-0"}}}};
  int64_t epoch = driver->Do(start).epoch;
  // Before any Start: nobody has anything to stop.
  AbandonAttempt abandon{.worker_id = "w2", .job_uid = "u", .epoch = epoch, .detail = "busy"};
  EXPECT_TRUE(driver->Do(abandon).stops.empty());
  EXPECT_EQ(driver->Occupied(""), 0);
  EXPECT_EQ(driver->State("u"), JobStatus::QUEUED);

  epoch = driver->Do(start).epoch;
  abandon.epoch = epoch;
  abandon.others_run = true;
  AbandonAttempt::Result result = driver->Do(abandon);
  ASSERT_EQ(result.stops.size(), 1u);
  EXPECT_EQ(result.stops[0].worker_id, "w1");
  EXPECT_EQ(driver->Occupied("w1"), 1);
  EXPECT_EQ(driver->Occupied("w2"), 0);
  driver->Exit("u", "w1", epoch, 1, Stopped());
  EXPECT_EQ(driver->Occupied(""), 0);

  epoch = driver->Do(start).epoch;
  driver->Begin("u", "w1", epoch);
  abandon.epoch = epoch;
  EXPECT_EQ(driver->Do(abandon).stops.size(), 1u) << "though w1 runs already";
  EXPECT_EQ(driver->State("u"), JobStatus::RECOVERING);
  EXPECT_EQ(driver->Job("u").status().restarts(), 0);
}

TEST_P(StoreGangs, AHelloStopsWhatIsLeftOfABrokenGang) {
  const int64_t epoch = RunGang("u");
  driver->Exit("u", "w1", epoch, 2, LostPeer(3));
  liger::worker::v1::Hello hello = NewHello("w2", 1, 2);
  Own(&hello, "u", epoch, "train", true, 1);
  const ReconcileWorker::Result result = driver->Do(ReconcileWorker{.hello = hello});
  ASSERT_EQ(result.stops.size(), 1u);
  EXPECT_EQ(result.stops[0].worker_id, "w2");
}

TEST_P(StoreGangs, BuildsDoNotMix) {
  liger::worker::v1::Hello hello = NewHello("w2", 1, 2);
  hello.set_build("another");
  driver->Do(ReconcileWorker{.hello = hello});
  CreateJob command = NewJob("u", "job-u");
  command.job.resolved_spec.mutable_resources()->set_count(2);
  driver->Do(command);
  driver->PassCheck("u", "w1");
  const auto started =
      driver->Try(StartAttempt{"u", {{"w1", {0}, {"w1-cpu-0"}}, {"w2", {1}, {"w2-cpu-0"}}}});
  EXPECT_NE(std::string(started.status().message()).find("build another"), std::string::npos);
}

// ---- devices

TEST_P(StoreGangs, ADeviceThatFailedIsGivenToNobodyUntilItsHostIsBooted) {
  const int64_t epoch = RunGang("u");
  CordonDevices cordon{.worker_id = "w2", .incarnation = 1};
  auto* fault = &cordon.faults.emplace_back();
  fault->set_device_uuid("w2-cpu-1");
  fault->set_fault("Xid 79");
  driver->Do(cordon);
  driver->Do(cordon);
  int events = 0;
  driver->Read<int>([&](const ReadView& view) {
    for (const auto& event : view.Events("u", 0, 0)) {
      if (event.type() != "DeviceCordoned") continue;
      ++events;
      EXPECT_EQ(event.message(), "device w2-cpu-1 of worker w2 (rank 3) failed: Xid 79");
    }
    return 0;
  });
  EXPECT_EQ(events, 1);
  driver->Exit("u", "w2", epoch, 2, LostPeer(3));
  driver->Exit("u", "w1", epoch, 2, Stopped());
  const StartAttempt again{"u",
                           {{"w1", {0, 1}, {"w1-cpu-0", "w1-cpu-1"}},
                            {"w2", {2, 3}, {"w2-cpu-0", "w2-cpu-1"}}}};
  const auto refused = driver->Try(again);
  EXPECT_NE(std::string(refused.status().message()).find("cordoned: Xid 79"), std::string::npos);
  // A new agent of the same boot does not know of it.
  driver->Do(ReconcileWorker{.hello = NewHello("w2", 2, 2)});
  EXPECT_FALSE(driver->Try(again).ok());
  liger::worker::v1::Hello booted = NewHello("w2", 3, 2);
  booted.set_boot_id("another boot");
  driver->Do(ReconcileWorker{.hello = booted});
  EXPECT_TRUE(driver->Try(again).ok());
}

TEST_P(StoreGangs, OnlyAnElasticJobRunsAgainOnFewerDevices) {
  for (const bool elastic : {false, true}) {
    const std::string uid = elastic ? "e" : "u";
    CreateJob command = NewJob(uid, "job-" + uid);
    command.job.resolved_spec.mutable_resources()->set_count(4);
    command.job.resolved_spec.mutable_parallel()->set_elastic(elastic);
    driver->Do(command);
    driver->PassCheck(uid, "w1");
    const StartAttempt half{uid, {{"w1", {0, 1}, {"w1-cpu-0", "w1-cpu-1"}}}};
    EXPECT_FALSE(driver->Try(half).ok()) << "the first attempt is whole";
    EXPECT_TRUE(driver->Do(AbandonAttempt{"w1", uid, Place(uid), "refused: no port"}).abandoned);
    EXPECT_FALSE(driver->Try(half).ok()) << "so it is after one that did not start";
    const int64_t epoch = Start(uid);
    driver->Exit(uid, "w1", epoch, 2, LostPeer(2));
    driver->Exit(uid, "w2", epoch, 2,
                 Fails(liger::v1::FAILURE_CLASS_INFRA, "killed", /*retry=*/true, 2));
    EXPECT_EQ(driver->State(uid), JobStatus::RECOVERING);
    EXPECT_EQ(driver->Try(half).ok(), elastic);
    if (elastic) {
      const std::string message = driver->Job(uid).status().message();
      EXPECT_NE(message.find("fewer than the 4 that it asks for"), std::string::npos) << message;
    }
  }
}

// ---- pause and resume

TEST_P(StoreGangs, ARunningJobPausesWithAllItsMembersAndGoesOn) {
  const int64_t epoch = RunGang("u");
  const PauseJob pause{"default", "job-u", "lunch"};
  EXPECT_EQ(driver->Do(pause).pauses.size(), 2u);
  EXPECT_EQ(driver->State("u"), JobStatus::PAUSING);
  EXPECT_TRUE(driver->Do(pause).pauses.empty());
  EXPECT_EQ(ReasonOf(driver->Try(ResumeJob{"default", "job-u"}).status()), "JOB_NOT_PAUSED");
  ReportTask saved = Report("w1", "u", epoch, "train", 2);
  saved.publish = SavedModel("checkpoint-7");
  saved.publish->set_kind("checkpoint");
  saved.publish->set_step(7);
  driver->Do(saved);
  driver->Exit("u", "w1", epoch, 3, {.outcome = AttemptState::kPaused});
  EXPECT_EQ(driver->State("u"), JobStatus::PAUSING);
  driver->Exit("u", "w2", epoch, 2, {.outcome = AttemptState::kPaused});
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::PAUSED);
  EXPECT_NE(job.status().message().find("checkpoint-7"), std::string::npos);
  EXPECT_EQ(job.status().action(), "liger-cli resume job-u");
  EXPECT_EQ(job.status().attempts(0).state(), "PAUSED");
  EXPECT_EQ(driver->Occupied(""), 0);
  EXPECT_TRUE(driver->Do(pause).pauses.empty());
  driver->Do(ResumeJob{"default", "job-u"});
  EXPECT_EQ(driver->State("u"), JobStatus::QUEUED);
  driver->Do(ResumeJob{"default", "job-u"});
  EXPECT_EQ(Start("u"), epoch + 1);
  EXPECT_EQ(driver->Job("u").status().restarts(), 0);
}

TEST_P(StoreGangs, WhatWaitsIsPausedAtOnce) {
  driver->Submit("u");
  EXPECT_EQ(ReasonOf(driver->Try(PauseJob{"default", "u", ""}).status()), "JOB_NOT_PAUSABLE");
  driver->PassCheck("u", "w1");
  EXPECT_TRUE(driver->Do(PauseJob{"default", "u", ""}).pauses.empty());
  EXPECT_EQ(driver->State("u"), JobStatus::PAUSED);
  EXPECT_FALSE(driver->Try(StartAttempt{"u", {{"w1", {0}, {"w1-cpu-0"}}}}).ok());
  driver->Do(CancelJob{"default", "u", ""});
  EXPECT_EQ(driver->State("u"), JobStatus::CANCELLED);
  EXPECT_EQ(ReasonOf(driver->Try(PauseJob{"default", "u", ""}).status()), "JOB_NOT_PAUSABLE");
  EXPECT_EQ(ReasonOf(driver->Try(ResumeJob{"default", "u"}).status()), "JOB_NOT_PAUSED");
  EXPECT_EQ(ReasonOf(driver->Try(PauseJob{"default", "none", ""}).status()), "JOB_NOT_FOUND");
}

TEST_P(StoreGangs, APauseThatIsLostOnTheWayIsRepeated) {
  driver->Submit("u");
  driver->PassCheck("u", "w1");
  const int64_t epoch = driver->Place("u", "w1");
  driver->Do(PauseJob{"default", "u", ""});
  EXPECT_EQ(driver->State("u"), JobStatus::PAUSING);
  ReportTask started = Report("w1", "u", epoch, "train", 1);
  started.started = true;
  EXPECT_TRUE(driver->Do(started).pause) << "its trainers run only now";
  liger::worker::v1::Hello hello = NewHello("w1", 1, 2);
  Own(&hello, "u", epoch, "train", true, 1);
  EXPECT_EQ(driver->Do(ReconcileWorker{.hello = hello}).pauses.size(), 1u);
}

TEST_P(StoreGangs, APauseWithoutRoomForTheCheckpointIsTakenBack) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Do(PauseJob{"default", "u", ""});
  ReportTask warned = Report("w1", "u", epoch, "train", 2);
  warned.warnings.emplace_back().set_code("NotPaused");
  warned.warnings.back().set_message("no space for the checkpoint");
  driver->Do(warned);
  const liger::v1::Job job = driver->Job("u");
  EXPECT_EQ(job.status().state(), JobStatus::RUNNING);
  EXPECT_EQ(job.status().message(), "no space for the checkpoint");
}

TEST_P(StoreGangs, AJobThatIsLostWhileItPausesIsPaused) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Do(PauseJob{"default", "u", ""});
  driver->Exit("u", "w1", epoch, 2, Failed(liger::v1::FAILURE_CLASS_INFRA, "killed", true));
  EXPECT_EQ(driver->State("u"), JobStatus::PAUSED);
  EXPECT_NE(driver->Job("u").status().message().find("killed"), std::string::npos);
  driver->Do(ResumeJob{"default", "u"});
  // Placed, and not begun: nothing is lost.
  const int64_t next = driver->Place("u", "w1");
  driver->Do(PauseJob{"default", "u", ""});
  driver->Do(AbandonAttempt{.worker_id = "w1", .job_uid = "u", .epoch = next, .detail = "busy"});
  EXPECT_EQ(driver->State("u"), JobStatus::PAUSED);
}

TEST_P(StoreGangs, ATrainerThatIsAskedToEndByOthersIsRunAgainAtNoRestart) {
  const int64_t epoch = driver->RunJob("u", "w1");
  driver->Exit("u", "w1", epoch, 2, {.outcome = AttemptState::kPaused});
  EXPECT_EQ(driver->State("u"), JobStatus::RECOVERING);
  EXPECT_EQ(driver->Job("u").status().restarts(), 0);
}

}  // namespace
}  // namespace liger::server::testing
