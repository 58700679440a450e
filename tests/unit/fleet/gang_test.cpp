// Prepare, Start, refusal, and the run of a job to its end.

#include <set>
#include <string>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/coordinator/cluster.h"

namespace liger::testing {
namespace {

using liger::v1::Job;
using liger::v1::JobStatus;
using liger::worker::v1::CoordinatorMessage;
using liger::worker::v1::WorkerMessage;

TEST(GangTest, AJobIsCheckedPreparedStartedAndPublished) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  const auto submitted = cluster.Submit("job");
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  EXPECT_EQ(submitted->status().state(), JobStatus::VALIDATING);

  const auto check = worker->Expect(CoordinatorMessage::kPrepare).prepare();
  EXPECT_EQ(check.kind(), liger::trainer::v1::TASK_KIND_CHECK);
  EXPECT_EQ(check.local_ranks_size(), 0);
  const auto prepare = worker->Expect(CoordinatorMessage::kPrepare).prepare();
  EXPECT_EQ(prepare.kind(), liger::trainer::v1::TASK_KIND_TRAIN);
  EXPECT_EQ(prepare.gang().nnodes(), 1);
  EXPECT_EQ(prepare.gang().world_size(), 1);
  ASSERT_EQ(prepare.local_ranks_size(), 1);
  EXPECT_EQ(prepare.local_ranks(0).device_uuid(), "w1-cpu-0");

  const auto start = worker->ExpectTrain();
  EXPECT_EQ(start.ref().task_id(), prepare.ref().task_id());
  EXPECT_EQ(start.master().port(), 29500);
  EXPECT_EQ(start.spec_hash(), submitted->spec_hash());
  EXPECT_EQ(start.resolved_spec().training().max_length(), 1024);
  EXPECT_EQ(cluster.Get("job")->status().state(), JobStatus::STARTING);

  worker->SendStarted(start.ref());
  Job job = cluster.WaitFor("job", JobStatus::RUNNING);
  EXPECT_EQ(job.status().epoch(), start.ref().epoch());
  worker->SendProgress(start.ref(), 7, 1.5);
  job = cluster.WaitUntil("job", [](const Job& j) { return j.status().progress().step() == 7; });
  EXPECT_DOUBLE_EQ(job.status().progress().values().at("loss"), 1.5);

  worker->SendPublish(start.ref(), "p1");
  EXPECT_FALSE(
      worker->Expect(CoordinatorMessage::kPublishGranted).publish_granted().output_uri().empty());
  worker->SendExit(start.ref());
  job = cluster.WaitFor("job", JobStatus::SUCCEEDED);
  EXPECT_FALSE(job.status().output_uri().empty());
  ASSERT_EQ(job.status().attempts_size(), 1);
  EXPECT_EQ(job.status().attempts(0).state(), "SUCCEEDED");
}

TEST(GangTest, EventsAreAcknowledgedAfterTheCommitAndReplaysChangeNothing) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto start = worker->ExpectTrain();
  while (worker->Take(CoordinatorMessage::kEventAck, absl::Milliseconds(200))) {
  }
  worker->SendStarted(start.ref());
  worker->SendProgress(start.ref(), 3, 1.0);
  int64_t acked = 0;
  while (acked < 2) {
    const auto ack = worker->Expect(CoordinatorMessage::kEventAck).event_ack();
    ASSERT_EQ(ack.ref().task_id(), start.ref().task_id());
    acked = ack.through_seq();
  }
  // What is acknowledged is there.
  EXPECT_EQ(cluster.Get("job")->status().progress().step(), 3);

  liger::worker::v1::TaskEvent again;
  again.mutable_started();
  worker->SendEvent(start.ref(), again, 1);
  worker->SendProgress(start.ref(), 4, 1.0);
  EXPECT_EQ(worker->Expect(CoordinatorMessage::kEventAck).event_ack().through_seq(), 3);
  const Job job = *cluster.Get("job");
  EXPECT_EQ(job.status().state(), JobStatus::RUNNING);
  EXPECT_EQ(job.status().progress().step(), 4);
}

TEST(GangTest, ARefusalFreesTheDevicesAndIsTriedAgain) {
  Cluster cluster;
  auto worker = cluster.MakeWorker({.auto_prepare = false, .auto_check = true});
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto answer = [&](const liger::trainer::v1::Ref& ref, bool refuse) {
    WorkerMessage message;
    if (refuse) {
      *message.mutable_refused()->mutable_ref() = ref;
      message.mutable_refused()->set_reason("disk nearly full");
    } else {
      *message.mutable_prepared()->mutable_ref() = ref;
    }
    worker->Send(message);
  };
  answer(worker->Expect(CoordinatorMessage::kPrepare).prepare().ref(), false);  // CHECK
  const auto first = worker->Expect(CoordinatorMessage::kPrepare).prepare();
  answer(first.ref(), true);
  const auto second = worker->Expect(CoordinatorMessage::kPrepare).prepare();
  EXPECT_GT(second.ref().epoch(), first.ref().epoch());
  answer(second.ref(), false);
  EXPECT_EQ(worker->ExpectTrain().ref().epoch(), second.ref().epoch());
  EXPECT_EQ(cluster.Get("job")->status().restarts(), 0);
}

TEST(GangTest, OnlyARefusalForItsOwnSakeCountsAgainstAWorker) {
  Cluster cluster;
  auto worker = cluster.MakeWorker({.auto_prepare = false});
  ASSERT_TRUE(worker->Connect().ok());
  for (const char* job : {"a", "b", "c"}) ASSERT_TRUE(cluster.Submit(job).ok());
  // A task of each job, at least.
  const auto refuse = [&](bool unfit) {
    std::set<std::string> jobs;
    while (jobs.size() < 3 && !::testing::Test::HasFailure()) {
      WorkerMessage message;
      auto& refused = *message.mutable_refused();
      *refused.mutable_ref() = worker->Expect(CoordinatorMessage::kPrepare).prepare().ref();
      refused.set_reason(unfit ? "no room" : "its lease is over");
      refused.set_unfit(unfit);
      jobs.insert(refused.ref().job_uid());
      worker->Send(message);
    }
  };
  const auto state = [&cluster] {
    grpc::ClientContext context;
    liger::v1::ListWorkersResponse response;
    EXPECT_TRUE(cluster.api().ListWorkers(&context, {}, &response).ok());
    return response.workers(0).state();
  };
  refuse(false);
  refuse(false);  // it is still sent some
  EXPECT_EQ(state(), "READY");
  refuse(true);
  const absl::Time deadline = absl::Now() + absl::Seconds(5);
  while (state() != "UNFIT" && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(state(), "UNFIT");
}

TEST(GangTest, AWorkerThatDoesNotPrepareInTimeLosesTheReservation) {
  Cluster cluster;
  auto worker = cluster.MakeWorker({.auto_prepare = false});
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto check = worker->Expect(CoordinatorMessage::kPrepare).prepare();
  const auto abort = worker->Expect(CoordinatorMessage::kAbort).abort();
  EXPECT_EQ(abort.ref().task_id(), check.ref().task_id());
  // Too late: the reservation must not stay.
  WorkerMessage late;
  *late.mutable_prepared()->mutable_ref() = check.ref();
  worker->Send(late);
  EXPECT_EQ(worker->Expect(CoordinatorMessage::kAbort).abort().ref().task_id(),
            check.ref().task_id());
  // And the task comes again.
  EXPECT_TRUE(worker->Take(CoordinatorMessage::kPrepare).has_value());
}

// Answers the next Prepare, and returns it.
liger::worker::v1::Prepare AnswerPrepare(FakeWorker* worker) {
  const auto prepare = worker->Expect(CoordinatorMessage::kPrepare).prepare();
  WorkerMessage message;
  *message.mutable_prepared()->mutable_ref() = prepare.ref();
  worker->Send(message);
  return prepare;
}

TEST(GangTest, ACancelBeforeThePreparedFreesTheDevice) {  // I6
  Cluster cluster([](Cluster::Options* o) { o->prepare_timeout = absl::Seconds(60); });
  auto worker = cluster.MakeWorker({.auto_prepare = false});
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("first").ok());
  AnswerPrepare(worker.get());  // CHECK
  const auto train = worker->Expect(CoordinatorMessage::kPrepare).prepare();
  ASSERT_TRUE(cluster.Cancel("first").ok());
  EXPECT_EQ(worker->Expect(CoordinatorMessage::kAbort).abort().ref().epoch(), train.ref().epoch());
  cluster.WaitFor("first", JobStatus::CANCELLED);

  ASSERT_TRUE(cluster.Submit("second").ok());
  AnswerPrepare(worker.get());  // CHECK
  AnswerPrepare(worker.get());
  EXPECT_EQ(worker->ExpectTrain().resolved_spec().name(), "second");
}

TEST(GangTest, ASessionThatEndsBeforeTheStartCostsNoRestart) {
  Cluster cluster([](Cluster::Options* o) {
    o->prepare_timeout = absl::Seconds(60);
    o->jobs.refusal_backoff_seconds = 1;
  });
  auto worker = cluster.MakeWorker({.auto_prepare = false});
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  AnswerPrepare(worker.get());  // CHECK
  const auto first = worker->Expect(CoordinatorMessage::kPrepare).prepare();
  worker->Disconnect();
  const Job waiting = cluster.WaitUntil("job", [](const Job& j) {
    return j.status().state() == JobStatus::QUEUED && j.status().reason() == "WorkerRefused";
  });
  EXPECT_NE(waiting.status().message().find("its session ended"), std::string::npos);
  // The reservation that the worker may have made must go.
  ASSERT_TRUE(worker->Connect().ok());
  EXPECT_EQ(worker->Expect(CoordinatorMessage::kAbort).abort().ref().epoch(), first.ref().epoch());
  const auto second = AnswerPrepare(worker.get());
  EXPECT_GT(second.ref().epoch(), first.ref().epoch());
  worker->ExpectTrain();
  EXPECT_EQ(cluster.Get("job")->status().restarts(), 0);
}

TEST(GangTest, JobsQueueForTheDevicesInOrder) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(cluster.Submit(name).ok());
    absl::SleepFor(absl::Milliseconds(5));
  }
  for (const char* name : {"a", "b", "c"}) {
    const auto start = worker->ExpectTrain();
    EXPECT_EQ(start.resolved_spec().name(), name);
    worker->Succeed(start.ref());
    cluster.WaitFor(name, JobStatus::SUCCEEDED);
  }
}

TEST(GangTest, ABadConfigFailsWithoutARetry) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto start = worker->ExpectTrain();
  worker->SendStarted(start.ref());
  worker->SendFailure(start.ref(), liger::v1::FAILURE_CLASS_NAN, "the loss of step 3 is NaN");
  const Job job = cluster.WaitFor("job", JobStatus::FAILED);
  EXPECT_EQ(job.status().failure().class_(), liger::v1::FAILURE_CLASS_NAN);
  EXPECT_EQ(job.status().failure().message(), "the loss of step 3 is NaN");
  EXPECT_EQ(job.status().attempts_size(), 1);
}

TEST(GangTest, AKilledTrainerIsRunAgain) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto first = worker->ExpectTrain();
  worker->SendStarted(first.ref());
  worker->SendFailure(first.ref(), liger::v1::FAILURE_CLASS_INFRA, "killed by signal 9");
  const auto second = worker->ExpectTrain();
  EXPECT_GT(second.ref().epoch(), first.ref().epoch());
  worker->Succeed(second.ref());
  const Job job = cluster.WaitFor("job", JobStatus::SUCCEEDED);
  EXPECT_EQ(job.status().restarts(), 1);
  EXPECT_EQ(job.status().attempts_size(), 2);
}

TEST(GangTest, AWorkerThatDrainsIsOfferedNothingAndItsJobLosesNoRestart) {
  Cluster cluster;
  auto worker = cluster.MakeWorker();
  ASSERT_TRUE(worker->Connect().ok());
  ASSERT_TRUE(cluster.Submit("job").ok());
  const auto first = worker->ExpectTrain();
  worker->SendStarted(first.ref());
  worker->Drain();
  liger::worker::v1::TaskEvent event;
  auto* exited = event.mutable_exited();
  exited->add_local_ranks()->set_exit_code(2);
  exited->mutable_failure()->set_class_(liger::v1::FAILURE_CLASS_INFRA);
  exited->mutable_failure()->set_message("worker w1 was shut down");
  exited->set_worker_stopped(true);
  worker->SendEvent(first.ref(), event);
  cluster.WaitFor("job", JobStatus::RECOVERING);
  EXPECT_FALSE(worker->Take(FakeWorker::Message::kStart, absl::Milliseconds(500)).has_value());
  const Job waiting = *cluster.Get("job");
  EXPECT_EQ(waiting.status().attempts_size(), 1) << "not even tried there";
  EXPECT_EQ(waiting.status().reason(), "WorkerAway");

  auto next = cluster.MakeWorker({.incarnation = 2});
  ASSERT_TRUE(next->Connect().ok());
  next->Succeed(next->ExpectTrain().ref());
  const Job job = cluster.WaitFor("job", JobStatus::SUCCEEDED);
  EXPECT_EQ(job.status().restarts(), 0);
  EXPECT_EQ(job.status().attempts_size(), 2);
}

}  // namespace
}  // namespace liger::testing
