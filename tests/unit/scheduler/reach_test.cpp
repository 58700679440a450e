// Gangs of several hosts, some of whose workers are not reached from others.

#include "server/scheduler/reach.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/scheduler/scheduler.h"

namespace liger::server {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class ReachTest : public ::testing::Test {
 protected:
  void AddWorker(const std::string& id, int slots, const std::string& host,
                 const std::string& address) {
    WorkerRow& worker = snapshot.workers.emplace_back();
    worker.worker_id = id;
    worker.hello.set_worker_id(id);
    worker.hello.set_boot_id("boot of " + host);
    worker.hello.set_host_name(host);
    worker.hello.set_advertise_address(address);
    for (int i = 0; i < slots; ++i) {
      auto* device = worker.hello.add_devices();
      device->set_uuid(id + "-" + std::to_string(i));
      device->set_kind(liger::v1::DEVICE_KIND_CPU);
    }
  }
  // Workers in their order, rank 0's first; empty: none.
  std::string Placed(int count) {
    snapshot.jobs.clear();
    JobRow& job = snapshot.jobs.emplace_back();
    job.uid = "a";
    job.state = liger::v1::JobStatus::QUEUED;
    job.resolved_spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CPU);
    job.resolved_spec.mutable_resources()->set_count(count);
    const ScheduleDecisions decisions = Schedule(snapshot);
    if (!decisions.waits.empty()) wait = decisions.waits[0];
    std::string text;
    for (const PlacementDecision& placement : decisions.placements) {
      for (const PlacedMember& member : placement.members) {
        text += (text.empty() ? "" : " ") + member.worker_id;
      }
    }
    return text;
  }

  ScheduleSnapshot snapshot;
  WaitDecision wait;
};

TEST_F(ReachTest, WorkersOfOneHostMeetAtLoopback) {
  AddWorker("w1", 1, "gpu1", "127.0.0.1");
  AddWorker("w2", 1, "gpu1", "127.0.0.1");
  EXPECT_EQ(Placed(2), "w1 w2");
}

TEST_F(ReachTest, AllMeetWhereLoopbackAddressesAreOfOneHost) {
  AddWorker("w1", 1, "gpu1", "127.0.0.1");
  AddWorker("w2", 1, "gpu1", "localhost");
  AddWorker("w3", 1, "gpu2", "10.0.0.2");
  AddWorker("w4", 1, "gpu3", "127.0.0.1");
  std::vector<const WorkerRow*> workers;
  for (const WorkerRow& worker : snapshot.workers) workers.push_back(&worker);
  EXPECT_FALSE(AllMeet(workers));
  workers.pop_back();
  EXPECT_TRUE(AllMeet(workers));
  EXPECT_THAT(Placed(1), Not(IsEmpty())) << "one device needs no other";
}

TEST_F(ReachTest, HostsThatDoNotReachEachOtherAreNamed) {
  AddWorker("w1", 1, "gpu1", "127.0.0.1");
  AddWorker("w2", 1, "gpu2", "localhost");
  EXPECT_EQ(Placed(2), "");
  EXPECT_EQ(wait.reason, "LoopbackAddress");
  EXPECT_TRUE(wait.can_never);
  EXPECT_EQ(wait.message,
            "needs 2 CPU slots of several hosts, whose ranks cannot reach each other: worker w1 "
            "(gpu1) advertises 127.0.0.1, worker w2 (gpu2) advertises localhost");
  EXPECT_THAT(wait.action, HasSubstr("--advertise-address"));
  EXPECT_EQ(Placed(1), "w1");
  AddWorker("w3", 1, "gpu2", "127.0.0.1");
  EXPECT_EQ(Placed(2), "w2 w3") << "which are of one host";
  EXPECT_EQ(Placed(3), "");
}

TEST_F(ReachTest, RanksMeetAtAWorkerThatAllReach) {
  AddWorker("w1", 2, "gpu1", "127.0.0.1");
  AddWorker("w2", 1, "gpu2", "10.0.0.2");
  EXPECT_EQ(Placed(3), "w2 w1") << "the coordinator's host has the larger worker";
  EXPECT_EQ(Placed(2), "w1");
  AddWorker("w3", 2, "gpu3", "127.0.0.1");
  EXPECT_EQ(Placed(4), "") << "over two hosts that others do not reach";
  EXPECT_THAT(Placed(3), Not(IsEmpty()));
}

TEST_F(ReachTest, ContainersOfOneHostAreNotOneHost) {
  AddWorker("w1", 1, "pod1", "127.0.0.1");
  AddWorker("w2", 1, "pod2", "127.0.0.1");
  for (WorkerRow& worker : snapshot.workers) worker.hello.set_boot_id("boot");
  EXPECT_EQ(Placed(2), "");
}

}  // namespace
}  // namespace liger::server
