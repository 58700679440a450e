// Jobs whose ranks do not fit on some or all of the GPUs there are.
#include "server/scheduler/memory_fit.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/scheduler.h"

namespace liger::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int64_t kGB = 1000000000;

class MemoryFitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    JobRow& job = snapshot.jobs.emplace_back();
    job.uid = "a";
    job.state = liger::v1::JobStatus::QUEUED;
    resolved = &job.resolved_spec;
    resolved->mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CUDA);
    resolved->mutable_resources()->set_count(2);
    resolved->mutable_training()->set_per_device_train_batch_size(4);
    resolved->mutable_training()->set_max_length(2048);
    MemoryNeeds& needs = snapshot.memory["a"];
    needs.Set(liger::v1::PARALLEL_STRATEGY_DDP, 2, {.least = 100 * kGB, .peak = 120 * kGB});
    needs.Set(liger::v1::PARALLEL_STRATEGY_FSDP, 2, {.least = 60 * kGB, .peak = 70 * kGB});
    needs.SetFullyShared(2, {.least = 60 * kGB});
    needs.SetFullyShared(4, {.least = 35 * kGB});
    needs.SetFullyShared(8, {.least = 20 * kGB});
  }
  void AddWorker(const std::string& id, int gpus, int64_t gb, const std::string& model = "GPU") {
    WorkerRow& worker = snapshot.workers.emplace_back();
    worker.worker_id = id;
    for (int i = 0; i < gpus; ++i) {
      auto* device = worker.hello.add_devices();
      device->set_uuid(id + "-" + std::to_string(i));
      device->set_kind(liger::v1::DEVICE_KIND_CUDA);
      device->set_model(model);
      device->set_memory_bytes(gb * kGB);
    }
  }
  void Strategy(liger::v1::ParallelStrategy strategy) {
    resolved->mutable_parallel()->set_strategy(strategy);
  }
  std::string PlacedOn() {
    const ScheduleDecisions decisions = Schedule(snapshot);
    return decisions.placements.empty() ? "" : decisions.placements[0].members[0].worker_id;
  }
  WaitDecision Wait() {
    const ScheduleDecisions decisions = Schedule(snapshot);
    EXPECT_THAT(decisions.placements, IsEmpty());
    return decisions.waits.at(0);
  }
  std::string Notice() {
    const MemoryNeeds& needs = snapshot.memory["a"];
    const auto warning = MemoryWarning(snapshot.workers, *resolved, needs);
    return warning ? "warning: " + warning->message()
                   : MemoryNotice(snapshot.workers, *resolved, needs);
  }

  ScheduleSnapshot snapshot;
  liger::v1::JobSpec* resolved = nullptr;
};

TEST_F(MemoryFitTest, NeedsTravelAsStats) {
  MemoryNeeds::Stats stats;
  stats["rows"] = 10;
  stats["dropped_rows"] = 2;
  snapshot.memory["a"].AddTo(&stats);
  EXPECT_EQ(stats.at("ddp_2_least_bytes"), 100 * kGB);
  const MemoryNeeds read = MemoryNeeds::FromStats(stats);
  const auto need = read.Of(*resolved, 2, 80 * kGB);
  ASSERT_TRUE(need);
  EXPECT_EQ(need->strategy, liger::v1::PARALLEL_STRATEGY_FSDP);
  EXPECT_EQ(need->need.least, 60 * kGB);
  EXPECT_EQ(need->need.peak, 70 * kGB);
  EXPECT_EQ(read.FullySharedOn(40 * kGB)->world_size, 4);
  EXPECT_FALSE(read.FullySharedOn(10 * kGB));
  MemoryNeeds::Stats again;
  read.AddTo(&again);
  EXPECT_EQ(again.size(), stats.size() - 2);
  stats.clear();
  stats["rows"] = 10;
  EXPECT_TRUE(MemoryNeeds::FromStats(stats).empty());
}

// Of two workers' CHECKs each may know what the other does not.
TEST_F(MemoryFitTest, OfSeveralPredictionsTheGreaterCounts) {
  MemoryNeeds needs, other;
  needs.Set(liger::v1::PARALLEL_STRATEGY_DDP, 2, {.least = 5, .peak = 9});
  other.Set(liger::v1::PARALLEL_STRATEGY_DDP, 2, {.least = 6, .peak = 8, .host = 1});
  other.Set(liger::v1::PARALLEL_STRATEGY_SINGLE, 1, {.least = 7});
  other.SetFullyShared(4, {.least = 3});
  needs.RaiseTo(other);
  needs.RaiseTo({});
  MemoryNeeds::Stats stats;
  needs.AddTo(&stats);
  const std::map<std::string, int64_t> read(stats.begin(), stats.end());
  EXPECT_EQ(read, (std::map<std::string, int64_t>{{"ddp_2_least_bytes", 6},
                                                  {"ddp_2_peak_bytes", 9},
                                                  {"ddp_2_host_bytes", 1},
                                                  {"single_1_least_bytes", 7},
                                                  {"shared_4_least_bytes", 3}}));
}

TEST_F(MemoryFitTest, TheRuleTakesDdpUpToAShareOfTheDevice) {
  const MemoryNeeds& needs = snapshot.memory["a"];
  EXPECT_EQ(needs.Of(*resolved, 2, 125 * kGB)->strategy, liger::v1::PARALLEL_STRATEGY_DDP);
  EXPECT_EQ(needs.Of(*resolved, 2, 124 * kGB)->strategy, liger::v1::PARALLEL_STRATEGY_FSDP);
  EXPECT_FALSE(needs.Of(*resolved, 4, 124 * kGB)) << "nothing was predicted for four";
}

TEST_F(MemoryFitTest, AJobThatFitsNowhereIsRefusedWithWhatToChange) {
  AddWorker("w1", 2, 80, "NVIDIA H100");
  AddWorker("w2", 2, 40);
  Strategy(liger::v1::PARALLEL_STRATEGY_DDP);
  WaitDecision wait = Wait();
  EXPECT_EQ(wait.reason, "DeviceMemory");
  EXPECT_EQ(wait.message,
            "with DDP on 2 GPUs each holds at least 100.00 GB of parameters, gradients and "
            "optimizer states, whatever the batch; the largest there has 80.00 GB (NVIDIA H100, "
            "worker w1)");
  EXPECT_THAT(wait.action, AllOf(HasSubstr("set parallel.strategy FSDP, "), HasSubstr("use lora")));
  EXPECT_TRUE(wait.can_never);
  EXPECT_TRUE(wait.refused);

  snapshot.workers.erase(snapshot.workers.begin());
  Strategy(liger::v1::PARALLEL_STRATEGY_FSDP);
  wait = Wait();
  EXPECT_THAT(wait.message, HasSubstr("with FSDP on 2 GPUs each holds at least 60.00 GB"));
  EXPECT_THAT(wait.action, AllOf(HasSubstr("resources.count 4 (35.00 GB on each)"),
                                 HasSubstr("set parallel.cpu_offload")));
  EXPECT_TRUE(wait.refused);
}

// Its checkpoints are worth more than an error.
TEST_F(MemoryFitTest, AJobThatHasRunIsNotRefused) {
  AddWorker("w2", 2, 40);
  snapshot.jobs[0].state = liger::v1::JobStatus::RECOVERING;
  snapshot.jobs[0].started_us = 1;
  EXPECT_EQ(Wait().reason, "DeviceMemory");
  EXPECT_FALSE(Wait().refused);
}

TEST_F(MemoryFitTest, OnlyLargeEnoughDevicesAreTaken) {
  Strategy(liger::v1::PARALLEL_STRATEGY_DDP);
  AddWorker("w1", 2, 80);
  AddWorker("w2", 2, 141);
  EXPECT_EQ(PlacedOn(), "w2");
  MemberRow& member = snapshot.occupied.emplace_back();
  member.job_uid = "holder";
  member.worker_id = "w2";
  member.device_uuids = {"w2-0"};
  EXPECT_EQ(Wait().reason, "DevicesBusy");
  // A worker that is away may come back.
  snapshot.occupied.clear();
  snapshot.workers[1].state = WorkerState::kLost;
  EXPECT_EQ(Wait().reason, "DeviceMemory");
  EXPECT_FALSE(Wait().refused);
  Strategy(liger::v1::PARALLEL_STRATEGY_UNSPECIFIED);
  EXPECT_EQ(PlacedOn(), "w1") << "FSDP by the rule";
}

TEST_F(MemoryFitTest, TooFewLargeOnesAreCounted) {
  Strategy(liger::v1::PARALLEL_STRATEGY_DDP);
  AddWorker("w1", 3, 80);
  AddWorker("w2", 1, 141);
  const WaitDecision wait = Wait();
  EXPECT_EQ(wait.reason, "DeviceMemory");
  EXPECT_THAT(wait.message, HasSubstr("only 1 of the 4 GPUs there has as much"));
  EXPECT_FALSE(wait.refused);
  EXPECT_THAT(Notice(), HasSubstr("warning: with DDP on 2 GPUs"));
}

// A prediction, a device or a kind of memory that is not known refuses nothing.
TEST_F(MemoryFitTest, WhatIsNotKnownRefusesNothing) {
  Strategy(liger::v1::PARALLEL_STRATEGY_DDP);
  AddWorker("w1", 2, 0);
  EXPECT_EQ(PlacedOn(), "w1");
  snapshot.workers.clear();
  AddWorker("w1", 2, 10);
  snapshot.memory.clear();
  EXPECT_EQ(PlacedOn(), "w1");
  EXPECT_EQ(Notice(), "");
  SetUp();
  snapshot.jobs.erase(snapshot.jobs.begin());
  resolved = &snapshot.jobs[0].resolved_spec;
  Strategy(liger::v1::PARALLEL_STRATEGY_DDP);
  resolved->mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CPU);
  for (auto& device : *snapshot.workers[0].hello.mutable_devices()) {
    device.set_kind(liger::v1::DEVICE_KIND_CPU);
  }
  EXPECT_EQ(PlacedOn(), "w1") << "a CPU's memory is its host's";
  constexpr char kLeast[] =
      "with DDP on 2 CPU slots each holds at least 100.00 GB of parameters, gradients and "
      "optimizer states in the host's memory";
  EXPECT_THAT(Notice(), AllOf(testing::StartsWith(kLeast), Not(HasSubstr("largest"))));
  // As CHECKs have it for CPUs.
  snapshot.memory["a"].Set(liger::v1::PARALLEL_STRATEGY_DDP, 2, {.least = 100 * kGB});
  EXPECT_EQ(Notice(), std::string(kLeast) + "; what it computes of a batch comes on top");
  snapshot.workers.clear();
  resolved->mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CUDA);
  EXPECT_EQ(Wait().reason, "NoWorker");
}

TEST_F(MemoryFitTest, FewerDevicesThanAskedForIsSaidFirst) {
  AddWorker("w1", 1, 141);
  EXPECT_EQ(Wait().reason, "TooFewDevices");
}

// On fewer devices a rank holds more.
TEST_F(MemoryFitTest, AnElasticJobGoesOnWhereItStillFits) {
  Strategy(liger::v1::PARALLEL_STRATEGY_FSDP);
  resolved->mutable_parallel()->set_elastic(true);
  resolved->mutable_resources()->set_count(4);
  resolved->mutable_training()->set_gradient_accumulation_steps(1);
  snapshot.jobs[0].state = liger::v1::JobStatus::RECOVERING;
  snapshot.jobs[0].started_us = 1;
  MemoryNeeds& needs = snapshot.memory["a"];
  needs.Set(liger::v1::PARALLEL_STRATEGY_FSDP, 4, {.least = 35 * kGB});
  needs.Set(liger::v1::PARALLEL_STRATEGY_FSDP, 1, {.least = 100 * kGB});
  AddWorker("w1", 2, 80);
  EXPECT_THAT(Schedule(snapshot).placements, SizeIs(1)) << "on two";
  snapshot.workers.clear();
  AddWorker("w1", 1, 80);
  EXPECT_THAT(Schedule(snapshot).placements, IsEmpty()) << "one does not hold it";
}

TEST_F(MemoryFitTest, APeakAboveTheDeviceIsAWarning) {
  AddWorker("w1", 2, 65);
  EXPECT_THAT(Notice(), AllOf(HasSubstr("warning: 4 rows of 2048 tokens"),
                              HasSubstr("70.00 GB of a device that has 65.00 GB")));
  AddWorker("w2", 2, 80);
  EXPECT_EQ(Notice(),
            "with FSDP on 2 GPUs each holds at least 60.00 GB of parameters, gradients and "
            "optimizer states, and 70.00 GB in all are predicted with rows of 2048 tokens "
            "(max_length); the largest there has 80.00 GB (GPU, worker w2)");
}

}  // namespace
}  // namespace liger::server
