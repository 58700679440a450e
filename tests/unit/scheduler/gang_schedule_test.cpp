// Gangs over several devices and workers.

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/scheduler.h"

namespace liger::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class GangScheduleTest : public ::testing::Test {
 protected:
  WorkerRow& AddWorker(const std::string& id, int devices, const std::string& gpu = "",
                       const std::string& build = "1") {
    WorkerRow& worker = snapshot.workers.emplace_back();
    worker.worker_id = id;
    worker.hello.set_worker_id(id);
    worker.hello.set_build(build);
    AddDevices(&worker, devices, gpu);
    return worker;
  }
  static void AddDevices(WorkerRow* worker, int count, const std::string& gpu) {
    for (int i = 0; i < count; ++i) {
      auto* device = worker->hello.add_devices();
      device->set_uuid(worker->worker_id + "-" + std::to_string(worker->hello.devices_size() - 1));
      device->set_kind(gpu.empty() ? liger::v1::DEVICE_KIND_CPU : liger::v1::DEVICE_KIND_CUDA);
      device->set_model(gpu);
    }
  }
  JobRow& AddJob(const std::string& uid, int count, bool gpu = false) {
    JobRow& job = snapshot.jobs.emplace_back();
    job.uid = uid;
    job.state = liger::v1::JobStatus::QUEUED;
    job.created_us = static_cast<int64_t>(snapshot.jobs.size());
    job.resolved_spec.mutable_resources()->set_device_kind(
        gpu ? liger::v1::DEVICE_KIND_CUDA : liger::v1::DEVICE_KIND_CPU);
    job.resolved_spec.mutable_resources()->set_count(count);
    snapshot.job_names.emplace_back(uid, "job-" + uid);
    return job;
  }
  void Occupy(const std::string& worker_id, std::vector<std::string> uuids) {
    MemberRow& member = snapshot.occupied.emplace_back();
    member.job_uid = "holder";
    member.worker_id = worker_id;
    member.device_uuids = std::move(uuids);
  }
  // "w1:2 w2:1" of the only placement; empty: there is none.
  std::string Placed() {
    const ScheduleDecisions decisions = Schedule(snapshot);
    std::string text;
    for (const PlacementDecision& placement : decisions.placements) {
      for (const PlacedMember& member : placement.members) {
        text += (text.empty() ? "" : " ") + member.worker_id + ":" +
                std::to_string(member.device_uuids.size());
      }
    }
    return text;
  }
  WaitDecision Wait() {
    const ScheduleDecisions decisions = Schedule(snapshot);
    EXPECT_THAT(decisions.placements, IsEmpty());
    return decisions.waits.at(0);
  }

  ScheduleSnapshot snapshot;
};

TEST_F(GangScheduleTest, OneWorkerIsBetterThanTwo) {
  AddWorker("w1", 2);
  AddWorker("w2", 4);
  AddWorker("w3", 2);
  AddJob("a", 3);
  EXPECT_EQ(Placed(), "w2:3");
  snapshot.jobs[0].resolved_spec.mutable_resources()->set_count(2);
  EXPECT_EQ(Placed(), "w1:2") << "which leaves room for a larger one";
  Occupy("w1", {"w1-0"});
  EXPECT_EQ(Placed(), "w3:2");
}

TEST_F(GangScheduleTest, SpansAsFewWorkersAsCanBe) {
  AddWorker("w1", 1);
  AddWorker("w2", 4);
  AddWorker("w3", 2);
  AddWorker("w4", 3);
  AddJob("a", 5);
  EXPECT_EQ(Placed(), "w2:4 w1:1") << "the smallest that has the rest";
  snapshot.jobs[0].resolved_spec.mutable_resources()->set_count(6);
  EXPECT_EQ(Placed(), "w2:4 w3:2");
  snapshot.jobs[0].resolved_spec.mutable_resources()->set_count(10);
  EXPECT_EQ(Placed(), "w2:4 w4:3 w3:2 w1:1");
  Occupy("w4", {"w4-1"});
  const WaitDecision wait = Wait();
  EXPECT_EQ(wait.reason, "DevicesBusy");
  EXPECT_FALSE(wait.can_never);
}

TEST_F(GangScheduleTest, WhatCanNeverFitSaysWhatItNeedsAndWhatIsThere) {
  AddWorker("w1", 2);
  AddWorker("w2", 1);
  AddJob("a", 4);
  const WaitDecision wait = Wait();
  EXPECT_EQ(wait.reason, "TooFewDevices");
  EXPECT_EQ(wait.message,
            "needs 4 CPU slots; of the workers that have the model and data worker w1 has 2 CPU "
            "slots, worker w2 has 1 CPU slot");
  EXPECT_EQ(wait.action, "lower resources.count, or connect more workers");
  EXPECT_TRUE(wait.can_never);
}

TEST_F(GangScheduleTest, TypesMixOnlyWhenAsked) {
  AddDevices(&AddWorker("w1", 2, "H100"), 1, "A100");
  AddWorker("w2", 1, "A100");
  AddJob("a", 2, /*gpu=*/true);
  EXPECT_EQ(Placed(), "w1:2");
  EXPECT_THAT(Schedule(snapshot).placements.at(0).members.at(0).device_uuids,
              ElementsAre("w1-0", "w1-1"));
  Occupy("w1", {"w1-0"});
  EXPECT_EQ(Placed(), "w1:1 w2:1") << "the two A100";
  snapshot.jobs[0].resolved_spec.mutable_resources()->set_count(3);
  const WaitDecision wait = Wait();
  EXPECT_EQ(wait.reason, "MixedDevices");
  EXPECT_TRUE(wait.can_never);
  EXPECT_EQ(wait.message,
            "needs 3 GPUs of one type; worker w1 has 1 A100 and 2 H100, worker w2 has 1 A100");
  EXPECT_THAT(wait.action, HasSubstr("allow_mixed_devices"));
  snapshot.jobs[0].resolved_spec.mutable_resources()->set_allow_mixed_devices(true);
  EXPECT_EQ(Placed(), "w1:2 w2:1");
}

TEST_F(GangScheduleTest, BuildsNeverMix) {
  AddWorker("w1", 1, "", "1.0");
  AddWorker("w2", 1, "", "1.1");
  AddJob("a", 2);
  const WaitDecision wait = Wait();
  EXPECT_EQ(wait.reason, "MixedBuilds");
  EXPECT_THAT(wait.message, HasSubstr("w1 has 1 CPU slot (build 1.0)"));
  EXPECT_THAT(wait.action, HasSubstr("same build"));
  AddWorker("w3", 1, "", "1.1");
  EXPECT_EQ(Placed(), "w2:1 w3:1");
}

TEST_F(GangScheduleTest, ADeviceThatFailedIsGivenToNobody) {
  WorkerRow& worker = AddWorker("w1", 2, "H100");
  worker.hello.mutable_devices(0)->set_fault("Xid 79");
  AddJob("one", 1, true);
  EXPECT_THAT(Schedule(snapshot).placements.at(0).members.at(0).device_uuids, ElementsAre("w1-1"));
  snapshot.jobs[0].resolved_spec.mutable_resources()->set_count(2);
  EXPECT_EQ(Wait().message,
            "needs 2 GPUs; of the workers that have the model and data worker w1 has 1 H100 and 1 "
            "cordoned (w1-0: Xid 79)");
  snapshot.workers[0].hello.mutable_devices(1)->set_fault("ECC");
  EXPECT_EQ(Wait().reason, "NoSuchDevice");
  EXPECT_THAT(Wait().message, HasSubstr("no worker that has the model and data has a working GPU"));
}

TEST_F(GangScheduleTest, AWaitingGangKeepsItsWorkers) {
  AddWorker("w1", 1);
  AddWorker("w2", 1);
  Occupy("w1", {"w1-0"});
  AddJob("gang", 2);
  AddJob("small", 1);
  const ScheduleDecisions decisions = Schedule(snapshot);
  EXPECT_THAT(decisions.placements, IsEmpty());
  ASSERT_THAT(decisions.waits, SizeIs(2));
  EXPECT_EQ(decisions.waits[1].reason, "BehindOtherJobs");
  AddWorker("w3", 1, "", "another");
  EXPECT_EQ(Placed(), "w3:1") << "of no use to the gang";
}

TEST_F(GangScheduleTest, WaitsForAMemberThatIsAwayOrRefused) {
  AddWorker("w1", 1);
  AddWorker("w2", 1);
  AddJob("gang", 2);
  snapshot.unavailable.insert("w2");
  EXPECT_EQ(Wait().message, "waits for worker w2 to connect again");
  snapshot.unavailable.clear();
  snapshot.excluded[{"gang", "w1"}] = "worker w1 did not start it: its port range is in use";
  EXPECT_EQ(Wait().reason, "WorkerRefused");
  EXPECT_THAT(Wait().message, HasSubstr("port range"));
}

TEST_F(GangScheduleTest, AnElasticJobThatHasRunTakesFewerWhereTheFleetHasNotAsMany) {
  AddWorker("w1", 2);
  AddJob("a", 4).resolved_spec.mutable_parallel()->set_elastic(true);
  EXPECT_EQ(Wait().reason, "TooFewDevices") << "the first attempt is whole";
  snapshot.jobs[0].epoch = 1;
  EXPECT_EQ(Wait().reason, "TooFewDevices") << "a worker that refused it did not run it";
  snapshot.jobs[0].started_us = 1;
  EXPECT_EQ(Placed(), "w1:2");
  Occupy("w1", {"w1-0"});
  EXPECT_THAT(Wait().message, HasSubstr("waits for 2 CPU slots")) << "not for whatever is free";
  AddWorker("w2", 2);
  EXPECT_THAT(Wait().message, HasSubstr("waits for 4 CPU slots")) << "there are as many again";
  snapshot.occupied.clear();
  EXPECT_EQ(Placed(), "w1:2 w2:2");
  snapshot.workers.pop_back();
  snapshot.jobs[0].resolved_spec.mutable_parallel()->set_elastic(false);
  EXPECT_THAT(Wait().message, HasSubstr("needs 4 CPU slots"));
}

TEST_F(GangScheduleTest, AnElasticJobTakesAsManyAsKeepItsGlobalBatch) {
  AddWorker("w1", 3);
  JobRow& job = AddJob("a", 4);
  job.started_us = 1;
  job.resolved_spec.mutable_parallel()->set_elastic(true);
  EXPECT_EQ(Placed(), "w1:2") << "three would change it";
  job.resolved_spec.mutable_training()->set_gradient_accumulation_steps(3);
  EXPECT_EQ(Placed(), "w1:3");
  job.resolved_spec.mutable_parallel()->set_hybrid_shard_size(2);
  EXPECT_EQ(Placed(), "w1:2");
  job.resolved_spec.mutable_parallel()->set_hybrid_shard_size(4);
  EXPECT_EQ(Wait().reason, "TooFewDevices");
}

// Whatever the fleet and the queue: whole gangs only, on free working devices of one
// build and type, each device once, never on more workers than need be, and nobody is
// overtaken by a younger job of the same kind where it fits.
TEST_F(GangScheduleTest, RandomFleetsKeepTheRules) {
  std::mt19937 random(7);
  const auto below = [&random](int n) { return static_cast<int>(random() % n); };
  for (int round = 0; round < 400; ++round) {
    snapshot = {};
    std::map<std::pair<std::string, std::string>, std::pair<std::string, std::string>> kinds;
    const int workers = 1 + below(5);
    for (int w = 0; w < workers; ++w) {
      WorkerRow& worker = AddWorker("w" + std::to_string(w), 1 + below(3),
                                    below(2) == 0 ? "H100" : "A100", below(4) == 0 ? "2" : "1");
      if (below(3) == 0) AddDevices(&worker, 1, "A100");
      for (auto& device : *worker.hello.mutable_devices()) {
        kinds[{worker.worker_id, device.uuid()}] = {worker.hello.build(), device.model()};
        if (below(6) == 0) {
          device.set_fault("Xid 79");
        } else if (below(3) == 0) {
          Occupy(worker.worker_id, {device.uuid()});
        }
      }
    }
    for (int j = 0; j < 4; ++j) {
      AddJob("j" + std::to_string(j), 1 + below(5), true)
          .resolved_spec.mutable_resources()
          ->set_allow_mixed_devices(below(4) == 0);
    }
    std::set<std::pair<std::string, std::string>> taken;
    for (const MemberRow& member : snapshot.occupied) {
      taken.insert({member.worker_id, member.device_uuids[0]});
    }
    for (const WorkerRow& worker : snapshot.workers) {
      for (const auto& device : worker.hello.devices()) {
        if (!device.fault().empty()) taken.insert({worker.worker_id, device.uuid()});
      }
    }
    const ScheduleDecisions decisions = Schedule(snapshot);
    EXPECT_EQ(decisions.placements.size() + decisions.waits.size(), 4u);
    for (const PlacementDecision& placement : decisions.placements) {
      const auto job =
          std::find_if(snapshot.jobs.begin(), snapshot.jobs.end(),
                       [&](const JobRow& row) { return row.uid == placement.job_uid; });
      std::set<std::string> builds, models;
      int count = 0;
      for (const PlacedMember& member : placement.members) {
        EXPECT_FALSE(member.device_uuids.empty());
        for (const std::string& uuid : member.device_uuids) {
          EXPECT_TRUE(taken.insert({member.worker_id, uuid}).second) << "taken twice, or broken";
          const auto& [build, model] = kinds.at({member.worker_id, uuid});
          builds.insert(build);
          models.insert(model);
          ++count;
        }
      }
      EXPECT_EQ(count, job->resolved_spec.resources().count());
      EXPECT_EQ(builds.size(), 1u);
      if (!job->resolved_spec.resources().allow_mixed_devices()) {
        EXPECT_EQ(models.size(), 1u);
      }
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace liger::server
