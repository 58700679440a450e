// Workers that are not well, and workers on which a job failed before.
#include "server/scheduler/usable.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace liger::server {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class UsableTest : public ::testing::Test {
 protected:
  void AddWorker(const std::string& id, int cpus = 1) {
    WorkerRow& worker = snapshot.workers.emplace_back();
    worker.worker_id = id;
    for (int i = 0; i < cpus; ++i) {
      auto* device = worker.hello.add_devices();
      device->set_uuid(id + "-" + std::to_string(i));
      device->set_kind(liger::v1::DEVICE_KIND_CPU);
    }
  }
  JobRow& AddJob(const std::string& uid, JobState state) {
    JobRow& job = snapshot.jobs.emplace_back();
    job.uid = uid;
    job.state = state;
    job.created_us = ++clock_;
    job.resolved_spec.mutable_model()->set_uri("/m");
    job.resolved_spec.mutable_dataset()->set_uri("/d");
    job.resolved_spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CPU);
    return job;
  }
  void Occupy(const std::string& worker_id) {
    MemberRow& member = snapshot.occupied.emplace_back();
    member.job_uid = "other";
    member.worker_id = worker_id;
    member.device_uuids = {worker_id + "-0"};
  }
  // Where the only job goes; empty: it waits.
  std::string Placed() {
    const ScheduleDecisions decisions = Schedule(snapshot);
    return decisions.placements.empty() ? "" : decisions.placements[0].members.at(0).worker_id;
  }
  std::string Checked() {
    const ScheduleDecisions decisions = Schedule(snapshot);
    return decisions.checks.empty() ? "" : decisions.checks[0].worker_id;
  }

  ScheduleSnapshot snapshot;

 private:
  int64_t clock_ = 0;
};

TEST_F(UsableTest, ARetryGoesToAnotherWorker) {
  AddWorker("a");
  AddWorker("b");
  AddJob("job", liger::v1::JobStatus::RECOVERING);
  ASSERT_EQ(Placed(), "a");
  snapshot.failed_on = {{"job", "a"}};
  EXPECT_EQ(Placed(), "b");
  snapshot.pins["job"] = {"a", {"a-0"}};
  EXPECT_EQ(Placed(), "b") << "an experiment's, too";
  snapshot.failed_on = {{"job", "a"}, {"job", "b"}};
  EXPECT_EQ(Placed(), "a") << "there is no other";
  snapshot.failed_on = {{"job", "a"}};
  snapshot.unavailable = {"b"};
  EXPECT_EQ(Placed(), "a") << "the other one is away";
}

TEST_F(UsableTest, ItWaitsForOneThatIsInUseForAWhile) {
  AddWorker("a");
  AddWorker("b");
  Occupy("b");
  AddJob("job", liger::v1::JobStatus::RECOVERING);
  snapshot.failed_on = {{"job", "a"}};
  EXPECT_EQ(Placed(), "a");
  snapshot.failed_lately = {"job"};
  EXPECT_EQ(Placed(), "");
  EXPECT_EQ(Schedule(snapshot).waits.at(0).reason, "DevicesBusy");
  AddJob("next", liger::v1::JobStatus::QUEUED);
  EXPECT_EQ(Placed(), "a") << "others may have the worker that it leaves";
}

TEST_F(UsableTest, ACheckIsRetriedOnAnotherWorker) {
  AddWorker("a");
  AddWorker("b");
  AddJob("job", liger::v1::JobStatus::VALIDATING);
  ASSERT_EQ(Checked(), "a");
  snapshot.failed_on = {{"job", "a"}};
  EXPECT_EQ(Checked(), "b");
  snapshot.max_checks_per_worker = 1;
  TaskRow& task = snapshot.running_checks.emplace_back();
  task.worker_id = "b";
  task.job_uid = "other";
  EXPECT_EQ(Checked(), "a");
  snapshot.failed_lately = {"job"};
  EXPECT_EQ(Checked(), "");
}

TEST_F(UsableTest, AnUnfitWorkerGetsNothingAndTheJobIsToldWhy) {
  AddWorker("a");
  AddJob("job", liger::v1::JobStatus::QUEUED);
  snapshot.unfit["a"] = "its data folder is full";
  const ScheduleDecisions decisions = Schedule(snapshot);
  EXPECT_THAT(decisions.placements, IsEmpty());
  ASSERT_THAT(decisions.waits, SizeIs(1));
  EXPECT_EQ(decisions.waits[0].reason, "WorkerUnfit");
  EXPECT_EQ(decisions.waits[0].message, "worker a takes no tasks: its data folder is full");
  EXPECT_FALSE(decisions.waits[0].can_never);
  AddWorker("b");
  EXPECT_EQ(Placed(), "b");
  Occupy("b");
  EXPECT_THAT(Schedule(snapshot).waits.at(0).message, HasSubstr("worker a takes no tasks"));
  snapshot.jobs[0].state = liger::v1::JobStatus::VALIDATING;
  EXPECT_EQ(Checked(), "b");
}

TEST_F(UsableTest, AProbedWorkerGetsOneTaskAndOnlyWhatOthersHaveNoRoomFor) {
  AddWorker("a", 2);
  AddWorker("b");
  AddJob("first", liger::v1::JobStatus::QUEUED);
  AddJob("second", liger::v1::JobStatus::QUEUED);
  AddJob("third", liger::v1::JobStatus::QUEUED);
  snapshot.probing = {"a"};
  const ScheduleDecisions decisions = Schedule(snapshot);
  ASSERT_THAT(decisions.placements, SizeIs(2));
  EXPECT_EQ(decisions.placements[0].members.at(0).worker_id, "b");
  EXPECT_EQ(decisions.placements[1].members.at(0).worker_id, "a");
  ASSERT_THAT(decisions.waits, SizeIs(1));
  EXPECT_EQ(decisions.waits[0].reason, "DevicesBusy");
  EXPECT_THAT(decisions.waits[0].message, HasSubstr("and one task tries it now"));
}

TEST_F(UsableTest, AJobThatHasFailedNowhereIsTheProbe) {
  AddWorker("a");
  AddWorker("b");
  AddJob("first", liger::v1::JobStatus::QUEUED);
  AddJob("second", liger::v1::JobStatus::QUEUED);
  snapshot.failed_on = {{"first", "b"}};
  snapshot.resting["b"] = "3 tasks in a row did not begin there";
  EXPECT_EQ(Schedule(snapshot).placements.at(0).job_uid, "first");
  snapshot.probing = {"a"};
  const ScheduleDecisions decisions = Schedule(snapshot);
  ASSERT_THAT(decisions.placements, SizeIs(1));
  EXPECT_EQ(decisions.placements[0].job_uid, "second");
}

TEST_F(UsableTest, WhoWaitsForAProbedWorkerIsToldThatATaskTriesIt) {
  AddWorker("a", 2);
  AddJob("first", liger::v1::JobStatus::QUEUED);
  AddJob("second", liger::v1::JobStatus::QUEUED);
  snapshot.probing = {"a"};
  const ScheduleDecisions decisions = Schedule(snapshot);
  ASSERT_THAT(decisions.placements, SizeIs(1));
  ASSERT_THAT(decisions.waits, SizeIs(1));
  EXPECT_EQ(decisions.waits[0].reason, "WorkerUnfit");
  EXPECT_EQ(decisions.waits[0].message,
            "worker a takes no tasks: it failed what it got before, and one task tries it now");
}

TEST_F(UsableTest, AnExperimentsJobDoesNotWaitForAnUnfitWorker) {
  AddWorker("a");
  AddWorker("b");
  AddJob("job", liger::v1::JobStatus::QUEUED);
  snapshot.pins["job"] = {"b", {"b-0"}};
  ASSERT_EQ(Placed(), "b");
  snapshot.unfit["b"] = "its data folder is full";
  EXPECT_EQ(Placed(), "a");
  snapshot.unfit.clear();
  snapshot.resting["b"] = "3 tasks in a row did not begin there";
  EXPECT_EQ(Placed(), "a");
}

TEST_F(UsableTest, AnElasticJobTakesWhatFitWorkersHave) {
  AddWorker("a");
  AddWorker("b");
  JobRow& job = AddJob("job", liger::v1::JobStatus::RECOVERING);
  job.started_us = 1;
  job.resolved_spec.mutable_resources()->set_count(2);
  job.resolved_spec.mutable_parallel()->set_elastic(true);
  ASSERT_THAT(Schedule(snapshot).placements.at(0).members, SizeIs(2));
  snapshot.resting["b"] = "3 tasks in a row did not begin there";
  EXPECT_EQ(Schedule(snapshot).waits.at(0).reason, "WorkerUnfit") << "it will be well soon";
  snapshot.resting.clear();
  snapshot.unfit["b"] = "its data folder is full";
  EXPECT_EQ(Placed(), "a");
  snapshot.jobs[0].resolved_spec.mutable_parallel()->set_elastic(false);
  const ScheduleDecisions decisions = Schedule(snapshot);
  EXPECT_EQ(decisions.waits.at(0).message, "worker b takes no tasks: its data folder is full");
  EXPECT_FALSE(decisions.waits[0].can_never);
}

}  // namespace
}  // namespace liger::server
