#include "server/scheduler/scheduler.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace liger::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SchedulerTest : public ::testing::Test {
 protected:
  WorkerRow& AddWorker(const std::string& id, int cpus, int gpus = 0) {
    WorkerRow& worker = snapshot.workers.emplace_back();
    worker.worker_id = id;
    worker.hello.set_worker_id(id);
    worker.hello.set_model_root("/models");
    worker.hello.set_dataset_root("/data");
    for (int i = 0; i < cpus + gpus; ++i) {
      auto* device = worker.hello.add_devices();
      device->set_uuid(id + "-" + std::to_string(i));
      device->set_kind(i < cpus ? liger::v1::DEVICE_KIND_CPU : liger::v1::DEVICE_KIND_CUDA);
    }
    return worker;
  }
  static void AddItem(WorkerRow* worker, const std::string& kind, const std::string& uri) {
    auto* item = worker->hello.add_inventory();
    item->set_kind(kind);
    item->set_uri(uri);
  }
  JobRow& AddJob(const std::string& uid, JobState state, int count = 1) {
    JobRow& job = snapshot.jobs.emplace_back();
    job.uid = uid;
    job.name = "job-" + uid;
    job.state = state;
    job.created_us = ++clock_;
    job.resolved_spec.mutable_model()->set_name("llama3-8b");
    job.resolved_spec.mutable_model()->set_uri("llama3-8b");
    job.resolved_spec.mutable_dataset()->set_name("alpaca");
    job.resolved_spec.mutable_dataset()->set_uri("alpaca.json");
    job.resolved_spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CPU);
    job.resolved_spec.mutable_resources()->set_count(count);
    snapshot.job_names.emplace_back(uid, job.name);
    return job;
  }
  JobRow& AddQueued(const std::string& uid, int count = 1) {
    return AddJob(uid, liger::v1::JobStatus::QUEUED, count);
  }
  void Occupy(const std::string& job_uid, const std::string& worker_id, const std::string& uuid) {
    MemberRow& member = snapshot.occupied.emplace_back();
    member.job_uid = job_uid;
    member.worker_id = worker_id;
    member.device_uuids = {uuid};
  }
  std::string Reason(const ScheduleDecisions& decisions, const std::string& uid) {
    for (const WaitDecision& wait : decisions.waits) {
      if (wait.job_uid == uid) return wait.reason;
    }
    return "";
  }

  ScheduleSnapshot snapshot;

 private:
  int64_t clock_ = 0;
};

TEST_F(SchedulerTest, OldestFirstOntoFreeDevices) {
  AddWorker("w", 2);
  AddQueued("a");
  AddQueued("b");
  AddQueued("c");
  snapshot.jobs[0].created_us = 99;  // a is the youngest now
  const ScheduleDecisions decisions = Schedule(snapshot);
  ASSERT_THAT(decisions.placements, SizeIs(2));
  EXPECT_EQ(decisions.placements[0].job_uid, "b");
  EXPECT_THAT(decisions.placements[0].members.at(0).device_uuids, ElementsAre("w-0"));
  EXPECT_EQ(decisions.placements[1].job_uid, "c");
  EXPECT_THAT(decisions.placements[1].members.at(0).device_uuids, ElementsAre("w-1"));
  EXPECT_EQ(Reason(decisions, "a"), "DevicesBusy");
}

TEST_F(SchedulerTest, RandomWeightsOfAKnownShapeNeedNoFolder) {
  AddWorker("w", 1);
  AddItem(&AddWorker("v", 1), "model", "/models/llama3-8b");
  snapshot.catalog_uris = {"llama3-8b"};
  auto* model = AddQueued("a").resolved_spec.mutable_model();
  model->set_random_init(true);
  auto placements = Schedule(snapshot).placements;
  ASSERT_THAT(placements, SizeIs(1));
  EXPECT_EQ(placements[0].members.at(0).worker_id, "v") << "the folder may hold the tokenizer";
  snapshot.workers[1].hello.clear_inventory();
  EXPECT_THAT(Schedule(snapshot).placements, SizeIs(1));
  model->set_random_init(false);
  EXPECT_EQ(Reason(Schedule(snapshot), "a"), "ModelAbsent");
  model->set_random_init(true);
  model->set_name("another");
  EXPECT_EQ(Reason(Schedule(snapshot), "a"), "ModelAbsent");
}

TEST_F(SchedulerTest, ARecoveringJobIsPlacedAsAQueuedOne) {
  AddWorker("w", 1);
  AddJob("a", liger::v1::JobStatus::RECOVERING);
  EXPECT_THAT(Schedule(snapshot).placements, SizeIs(1));
}

TEST_F(SchedulerTest, OccupiedDevicesAreLeftAlone) {
  AddWorker("w", 2);
  AddQueued("a");
  Occupy("old", "w", "w-0");
  EXPECT_THAT(Schedule(snapshot).placements.at(0).members.at(0).device_uuids, ElementsAre("w-1"));
  Occupy("older", "w", "w-1");
  snapshot.job_names.emplace_back("older", "first-run");
  const ScheduleDecisions decisions = Schedule(snapshot);
  EXPECT_THAT(decisions.placements, IsEmpty());
  EXPECT_EQ(Reason(decisions, "a"), "DevicesBusy");
  EXPECT_THAT(decisions.waits[0].message, HasSubstr("first-run"));
  EXPECT_FALSE(decisions.waits[0].can_never);
}

TEST_F(SchedulerTest, GangsAreAllOrNothingAndHoldTheirPlace) {
  AddWorker("w", 3);
  Occupy("x", "w", "w-0");
  Occupy("y", "w", "w-1");
  AddQueued("gang", 2);
  AddQueued("small", 1);
  const ScheduleDecisions decisions = Schedule(snapshot);
  EXPECT_THAT(decisions.placements, IsEmpty()) << "the third device is kept for the gang";
  EXPECT_EQ(Reason(decisions, "gang"), "DevicesBusy");
  EXPECT_EQ(Reason(decisions, "small"), "BehindOtherJobs");
  snapshot.occupied.pop_back();
  EXPECT_EQ(Schedule(snapshot).placements.at(0).members.at(0).device_uuids.size(), 2u);
}

TEST_F(SchedulerTest, AWaitingJobBlocksOnlyTheWorkersItWaitsFor) {
  snapshot.catalog_uris = {"llama3-8b"};
  AddItem(&AddWorker("a", 1), "model", "llama3-8b");
  AddWorker("b", 1);
  Occupy("x", "a", "a-0");
  AddQueued("needs-a");
  AddQueued("anywhere").resolved_spec.mutable_model()->set_uri("/some/path");
  const ScheduleDecisions decisions = Schedule(snapshot);
  ASSERT_THAT(decisions.placements, SizeIs(1));
  EXPECT_EQ(decisions.placements[0].members.at(0).worker_id, "b");
}

TEST_F(SchedulerTest, AJobThatCannotRunHoldsUpNobody) {
  AddWorker("w", 1);
  AddQueued("too-large", 4);
  AddQueued("gpu").resolved_spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CUDA);
  AddQueued("fine");
  const ScheduleDecisions decisions = Schedule(snapshot);
  EXPECT_EQ(decisions.placements.at(0).job_uid, "fine");
  EXPECT_EQ(Reason(decisions, "too-large"), "TooFewDevices");
  EXPECT_EQ(Reason(decisions, "gpu"), "NoSuchDevice");
  for (const WaitDecision& wait : decisions.waits) {
    EXPECT_TRUE(wait.can_never);
    EXPECT_NE(wait.action, "");
  }
}

TEST_F(SchedulerTest, KindsOfDevicesDoNotMix) {
  AddWorker("w", 1, 1);
  AddQueued("gpu").resolved_spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CUDA);
  EXPECT_THAT(Schedule(snapshot).placements.at(0).members.at(0).device_uuids, ElementsAre("w-1"));
}

TEST_F(SchedulerTest, AnAbsentModelSaysWhereToPutIt) {
  snapshot.catalog_uris = {"llama3-8b", "alpaca.json"};
  WorkerRow& worker = AddWorker("w", 1);
  AddQueued("a");
  WaitDecision wait = Schedule(snapshot).waits.at(0);
  EXPECT_EQ(wait.reason, "ModelAbsent");
  EXPECT_EQ(wait.message, "no worker has the model llama3-8b");
  EXPECT_EQ(wait.action, "put its Hugging Face folder at /models/llama3-8b on a worker");
  EXPECT_TRUE(wait.can_never);

  AddItem(&worker, "model", "file:///models/llama3-8b");
  wait = Schedule(snapshot).waits.at(0);
  EXPECT_EQ(wait.reason, "DatasetAbsent");
  EXPECT_THAT(wait.action, HasSubstr("/data/alpaca.json"));
  AddItem(&worker, "dataset", "alpaca.json");
  EXPECT_THAT(Schedule(snapshot).placements, SizeIs(1));
}

TEST_F(SchedulerTest, ARefusedModelSaysWhy) {
  snapshot.catalog_uris = {"llama3-8b", "alpaca.json"};
  WorkerRow& worker = AddWorker("w", 1);
  AddItem(&worker, "dataset", "alpaca.json");
  AddItem(&worker, "model", "file:///models/llama3-8b");
  auto* model = worker.hello.mutable_inventory(worker.hello.inventory_size() - 1);
  model->set_refused("llama3-8b leads out of /models");
  AddQueued("a");
  const ScheduleDecisions decisions = Schedule(snapshot);
  EXPECT_THAT(decisions.placements, IsEmpty());
  EXPECT_EQ(decisions.waits.at(0).message,
            "no worker has the model llama3-8b; worker w refuses it: llama3-8b leads out of "
            "/models");
}

TEST_F(SchedulerTest, OnlyReadyWorkersCount) {
  AddQueued("a");
  EXPECT_EQ(Reason(Schedule(snapshot), "a"), "NoWorker");
  AddWorker("lost", 1).state = WorkerState::kLost;
  AddWorker("draining", 1).state = WorkerState::kDraining;
  AddWorker("cordoned", 1).cordoned = true;
  EXPECT_EQ(Reason(Schedule(snapshot), "a"), "NoWorker");
}

TEST_F(SchedulerTest, ChecksTakeNoDeviceAndAreBounded) {
  AddWorker("w", 1);
  Occupy("x", "w", "w-0");
  for (const char* uid : {"a", "b", "c"}) AddJob(uid, liger::v1::JobStatus::VALIDATING);
  TaskRow running;
  running.job_uid = "a";
  running.worker_id = "w";
  snapshot.running_checks = {running};
  const ScheduleDecisions decisions = Schedule(snapshot);
  ASSERT_THAT(decisions.checks, SizeIs(1));
  EXPECT_EQ(decisions.checks[0].job_uid, "b") << "a is being checked";
  EXPECT_EQ(Reason(decisions, "c"), "CheckSlotsBusy");
}

TEST_F(SchedulerTest, ChecksSpreadOverWorkers) {
  AddWorker("w1", 1);
  AddWorker("w2", 1);
  AddJob("a", liger::v1::JobStatus::VALIDATING);
  AddJob("b", liger::v1::JobStatus::VALIDATING);
  const ScheduleDecisions decisions = Schedule(snapshot);
  ASSERT_THAT(decisions.checks, SizeIs(2));
  EXPECT_NE(decisions.checks[0].worker_id, decisions.checks[1].worker_id);
}

TEST_F(SchedulerTest, APathPrefersTheWorkerThatCheckedIt) {
  AddWorker("w1", 1);
  AddWorker("w2", 1);
  AddQueued("a").resolved_spec.mutable_model()->set_uri("/my/model");
  snapshot.checked.insert({"a", "w2"});
  EXPECT_EQ(Schedule(snapshot).placements.at(0).members.at(0).worker_id, "w2");
  snapshot.workers[1].state = WorkerState::kLost;
  EXPECT_EQ(Schedule(snapshot).placements.at(0).members.at(0).worker_id, "w1")
      << "better than not at all";
}

TEST_F(SchedulerTest, ARefusalIsNotTriedAgainAtOnce) {
  AddWorker("w1", 1);
  AddQueued("a");
  snapshot.excluded[{"a", "w1"}] = "worker w1 did not start it: disk nearly full";
  WaitDecision wait = Schedule(snapshot).waits.at(0);
  EXPECT_EQ(wait.reason, "WorkerRefused");
  EXPECT_EQ(wait.message, "worker w1 did not start it: disk nearly full; it will be tried again");
  AddWorker("w2", 1);
  EXPECT_EQ(Schedule(snapshot).placements.at(0).members.at(0).worker_id, "w2");
  Occupy("x", "w2", "w2-0");
  wait = Schedule(snapshot).waits.at(0);
  EXPECT_EQ(wait.reason, "DevicesBusy");
  EXPECT_THAT(wait.message, HasSubstr("disk nearly full"));
}

TEST_F(SchedulerTest, APathThatAWorkerListsIsAConstraint) {
  AddWorker("a", 1);  // would be first
  WorkerRow& has_both = AddWorker("b", 1);
  AddItem(&has_both, "model", "llama3-8b");
  AddItem(&has_both, "dataset", "alpaca.json");
  AddQueued("job");
  AddJob("check", liger::v1::JobStatus::VALIDATING);
  ScheduleDecisions decisions = Schedule(snapshot);
  EXPECT_EQ(decisions.placements.at(0).members.at(0).worker_id, "b");
  EXPECT_EQ(decisions.checks.at(0).worker_id, "b");
  Occupy("x", "b", "b-0");
  EXPECT_THAT(Schedule(snapshot).placements, IsEmpty()) << "a has neither file";
}

TEST_F(SchedulerTest, APathThatNobodyListsStaysWhereItsCheckPassed) {
  AddWorker("w1", 1);
  AddWorker("w2", 1);
  AddQueued("a").resolved_spec.mutable_model()->set_uri("/my/model");
  snapshot.checked.insert({"a", "w2"});
  Occupy("x", "w2", "w2-0");
  const ScheduleDecisions decisions = Schedule(snapshot);
  EXPECT_THAT(decisions.placements, IsEmpty());
  EXPECT_EQ(Reason(decisions, "a"), "DevicesBusy");
}

TEST_F(SchedulerTest, NothingIsSentToAWorkerThatIsAway) {
  AddWorker("w1", 1);
  AddQueued("a");
  AddJob("b", liger::v1::JobStatus::VALIDATING);
  snapshot.unavailable.insert("w1");
  const ScheduleDecisions decisions = Schedule(snapshot);
  EXPECT_THAT(decisions.placements, IsEmpty());
  EXPECT_THAT(decisions.checks, IsEmpty());
  EXPECT_EQ(Reason(decisions, "a"), "WorkerAway");
  EXPECT_EQ(Reason(decisions, "b"), "WorkerAway");
  EXPECT_EQ(decisions.waits[0].message, "waits for worker w1 to connect again");
  EXPECT_FALSE(decisions.waits[0].can_never);
  AddWorker("w2", 1);
  EXPECT_EQ(Schedule(snapshot).placements.at(0).members.at(0).worker_id, "w2");
}

TEST_F(SchedulerTest, APlacementChangesNoOtherJobsMessage) {
  AddWorker("w", 1);
  for (const char* uid : {"a", "b", "c", "d"}) AddQueued(uid);
  Occupy("x", "w", "w-0");
  const std::vector<WaitDecision> before = Schedule(snapshot).waits;
  snapshot.occupied.clear();
  Occupy("a", "w", "w-0");  // a got the device
  snapshot.jobs.erase(snapshot.jobs.begin());
  const std::vector<WaitDecision> after = Schedule(snapshot).waits;
  ASSERT_THAT(before, SizeIs(4));
  ASSERT_THAT(after, SizeIs(3));
  for (size_t i = 1; i < after.size(); ++i) {  // but the next one's
    EXPECT_EQ(after[i].message, before[i + 1].message);
  }
}

TEST_F(SchedulerTest, FillsTheFullestWorkerThatFits) {
  AddWorker("big", 4);
  AddWorker("small", 1);
  AddQueued("a");
  EXPECT_EQ(Schedule(snapshot).placements.at(0).members.at(0).worker_id, "small");
}

TEST(SameUri, IgnoresTheSchemeAndTheRoot) {
  EXPECT_TRUE(SameUri("llama", "file:///models/llama", "/models"));
  EXPECT_TRUE(SameUri("./llama/", "llama", "/models/"));
  EXPECT_TRUE(SameUri("/elsewhere/llama", "file:///elsewhere/llama", "/models"));
  EXPECT_FALSE(SameUri("llama", "/models2/llama", "/models"));
  EXPECT_FALSE(SameUri("llama", "llama3", "/models"));
}

TEST_F(SchedulerTest, APinnedJobWaitsForItsDevice) {
  for (const char* id : {"w1", "w2"}) {
    WorkerRow& worker = AddWorker(id, 2);
    AddItem(&worker, "model", "llama3-8b");
    AddItem(&worker, "dataset", "alpaca.json");
  }
  AddQueued("a");
  snapshot.pins["a"] = {"w2", {"w2-1"}};
  ScheduleDecisions decisions = Schedule(snapshot);
  ASSERT_THAT(decisions.placements, SizeIs(1));
  EXPECT_EQ(decisions.placements[0].members.at(0).worker_id, "w2");
  EXPECT_THAT(decisions.placements[0].members.at(0).device_uuids, ElementsAre("w2-1"));
  Occupy("b", "w2", "w2-1");
  EXPECT_THAT(Schedule(snapshot).placements, IsEmpty());
  // A worker that is gone, or has other devices now, holds nobody up.
  snapshot.pins["a"] = {"w2", {"gone"}};
  EXPECT_THAT(Schedule(snapshot).placements, SizeIs(1));
  snapshot.pins["a"] = {"w3", {"w3-0"}};
  EXPECT_THAT(Schedule(snapshot).placements, SizeIs(1));
}

}  // namespace
}  // namespace liger::server
