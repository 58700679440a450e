// Several ranks on a worker, pauses, and devices that fail.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/file.h"
#include "common/unique_fd.h"
#include "tests/unit/agent/agent_fixture.h"

namespace liger::agent {
namespace {

using testing::HasSubstr;
using testing::SizeIs;
using worker::v1::Exited;
using worker::v1::TaskEvent;

class AgentGangTest : public AgentTest {
 protected:
  // The last of what was told of each rank.
  std::map<int, v1::RankProgress> Ranks() {
    std::map<int, v1::RankProgress> ranks;
    for (const TaskEvent& event : coordinator_->Events(ref_)) {
      for (const auto& rank : event.progress().ranks()) ranks[rank.rank()] = rank;
    }
    return ranks;
  }
  worker::v1::Started Started() {
    for (const TaskEvent& event : coordinator_->Events(ref_)) {
      if (event.has_started()) return event.started();
    }
    return {};
  }
};

TEST_F(AgentGangTest, EachRankHasItsProcessItsLogAndItsProgress) {
  StartAgent({"--cpu-slots", "2", "--rank-ports", "29310-29319"});
  Run(ref_, {{"steps", "5"}, {"step_ms.1", "10"}}, 2);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_FALSE(exited.has_failure()) << exited.DebugString();
  EXPECT_THAT(exited.local_ranks(), SizeIs(2));
  ExpectGapless(ref_);
  for (int rank : {0, 1}) {
    const std::string line = absl::StrCat("rank ", rank, " of 2");
    EXPECT_TRUE(coordinator_->WaitUntil([&] {
      return coordinator_->Log(ref_, rank).find(line) != std::string::npos;
    })) << rank;
    EXPECT_EQ(Ranks()[rank].peak_memory_bytes().at("rss"), 5000) << rank;
  }
  EXPECT_TRUE(coordinator_->WaitUntil([&] { return agent_.Folders("attempts").empty(); }))
      << "each log is acknowledged by itself";
  const auto communication = Started().communication();
  EXPECT_EQ(communication.at("WORLD_SIZE"), "2");
  EXPECT_EQ(communication.at("GLOO_SOCKET_IFNAME"), "lo");
  const std::string port = absl::StrCat(coordinator_->WaitForPrepared(ref_).master().port());
  EXPECT_EQ(communication.at("MASTER_PORT"), port);
  EXPECT_THAT(port, HasSubstr("2931"));
}

TEST_F(AgentGangTest, TheRankThatFailedByItselfIsToBlame) {
  StartAgent({"--cpu-slots", "3"});
  Run(ref_, {{"end", "wait"}, {"end.0", "lost"}, {"blames", "1"}, {"steps.0", "1"},
             {"end.1", "fail"}, {"deaf.1", "1"}, {"steps.1", "10"}, {"log.1", "words of one"}},
      3);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.first_failed_rank(), 1);
  EXPECT_EQ(exited.failure().first_failed_rank(), 1);
  EXPECT_EQ(exited.failure().message(), "row 17 is empty");
  EXPECT_THAT(exited.log_tail(), HasSubstr("words of one"));
  EXPECT_EQ(exited.local_ranks(2).exit_code(), 2) << "it was told to stop";
  EXPECT_TRUE(WaitForNoTrainers(absl::Seconds(5)));
}

TEST_F(AgentGangTest, WhatIsLostOnAnotherWorkerIsTold) {
  StartAgent({"--cpu-slots", "2"});
  Run(ref_, {{"end", "wait"}, {"end.0", "lost"}, {"blames", "5"}}, 2);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.first_failed_rank(), 5);
  EXPECT_EQ(exited.failure().message(), "lost rank 5");
  EXPECT_THAT(exited.log_tail(), HasSubstr("rank 0 of 2")) << "of the one that tells it";
}

TEST_F(AgentGangTest, ARankThatDoesNotStopIsKilledWithTheGang) {
  StartAgent({"--cpu-slots", "2"});
  Run(ref_, {{"end.0", "hang"}, {"end.1", "fail"}}, 2);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.first_failed_rank(), 1);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_DATA);
  EXPECT_EQ(exited.local_ranks(0).signal(), SIGKILL);
}

TEST_F(AgentGangTest, NoPortForTheRanksIsSaidAtPrepare) {
  UniqueFd taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(29320);
  ASSERT_EQ(bind(taken.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(taken.get(), 1), 0);
  StartAgent({"--rank-ports", "29320-29320"});
  const std::string device = coordinator_->WaitForHello().devices(0).uuid();
  coordinator_->Prepare(ref_, trainer::v1::TASK_KIND_TRAIN, {device});
  EXPECT_THAT(coordinator_->WaitForRefused(ref_).reason(), HasSubstr("--rank-ports"));
  EXPECT_FALSE(coordinator_->WaitForRefused(ref_).unfit()) << "a check may run";
  coordinator_->Run(MakeRef("check"), MakeSpec("check", {}), trainer::v1::TASK_KIND_CHECK);
  EXPECT_FALSE(coordinator_->WaitForExited(MakeRef("check")).has_failure()) << "needs none";
}

TEST_F(AgentGangTest, APauseIsToldAndMayBeAskedAgain) {
  StartAgent({"--cpu-slots", "2"});
  Run(ref_, {{"end", "wait"}, {"pause", "1"}}, 2);
  WaitForProgress(ref_);
  coordinator_->Pause(ref_);
  Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_TRUE(exited.paused());
  EXPECT_FALSE(exited.has_failure() || exited.cancelled());
  EXPECT_TRUE(coordinator_->WaitUntil([&] { return agent_.Folders("attempts").empty(); }));

  const trainer::v1::Ref other = MakeRef("job-b");
  Run(other, {{"end", "wait"}, {"pause", "no"}});
  WaitForProgress(other);
  // The same command each time; what could not be done is asked of the trainer again.
  EXPECT_TRUE(coordinator_->WaitUntil([&] {
    coordinator_->Pause(other);
    for (const TaskEvent& event : coordinator_->Received(other)) {
      if (event.has_exited()) return true;
    }
    return false;
  }));
  EXPECT_TRUE(coordinator_->WaitForExited(other).paused());
}

TEST_F(AgentGangTest, AWorkerThatStopsLetsItsTrainersSaveFirst) {
  StartAgent({"--stop-grace", "20"});
  Run(ref_, {{"end", "wait"}, {"pause", "1"}});
  WaitForProgress(ref_);
  agent_.Signal(SIGTERM);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_TRUE(exited.worker_stopped());
  EXPECT_THAT(exited.failure().message(), HasSubstr("was shut down"));
  EXPECT_FALSE(exited.paused());
  EXPECT_EQ(agent_.Wait(), 0);
}

// ---- devices, with an NVML that does what a file says

class AgentDeviceTest : public AgentGangTest {
 protected:
  void SetUp() override {
    agent_.SetVariable("LD_LIBRARY_PATH", LIGER_FAKE_NVML);
    agent_.SetVariable("FAKE_NVML_FAULT", fault_file());
  }
  std::string fault_file() const { return agent_.dir() + "/fault"; }
  void Break(const std::string& how) {
    ASSERT_TRUE(WriteFileAtomically(fault_file(), how).ok());
  }
  void ExpectCordoned(const std::string& fault) {
    EXPECT_TRUE(coordinator_->WaitUntil([&] {
      const worker::v1::Heartbeat heartbeat = coordinator_->last_heartbeat();
      return heartbeat.device_faults_size() == 1 &&
             heartbeat.device_faults(0).device_uuid() == "GPU-fake" &&
             heartbeat.device_faults(0).fault() == fault;
    })) << coordinator_->last_heartbeat().DebugString();
    EXPECT_TRUE(coordinator_->WaitUntil([&] {
      return agent_.HttpGet("/metrics").find("liger_worker_device_failed{device=\"GPU-fake\"} 1") !=
             std::string::npos;
    }));
    coordinator_->Prepare(MakeRef("next"), trainer::v1::TASK_KIND_TRAIN, {"GPU-fake"});
    EXPECT_THAT(coordinator_->WaitForRefused(MakeRef("next")).reason(), HasSubstr(fault));
  }
};

TEST_F(AgentDeviceTest, AnXidIsTheCauseOfTheCrashThatItLedTo) {
  Break("xid 13");  // a program's own fault
  StartAgent();
  EXPECT_EQ(coordinator_->WaitForHello().devices(0).fault(), "");
  Run(ref_, {{"end", "wait"}});
  WaitForProgress(ref_);
  Break("xid 79");
  for (pid_t trainer : agent_.Trainers()) kill(trainer, SIGKILL);
  const Exited exited = coordinator_->WaitForExited(ref_);
  EXPECT_EQ(exited.failure().class_(), v1::FAILURE_CLASS_INFRA);
  EXPECT_THAT(exited.failure().message(), HasSubstr("device GPU-fake of rank 0 failed: Xid 79 ("));
  ExpectCordoned("Xid 79");
}

TEST_F(AgentDeviceTest, OnlyNewEccErrorsCount) {
  Break("ecc 2");
  StartAgent();
  coordinator_->WaitForHeartbeats(2);
  EXPECT_EQ(coordinator_->last_heartbeat().device_faults_size(), 0);
  Break("ecc 3");
  ExpectCordoned("1 uncorrectable ECC error in its memory");
}

TEST_F(AgentDeviceTest, AGpuThatFellOffTheBus) {
  StartAgent();
  coordinator_->WaitForHeartbeats(1);
  Break("lost");
  ExpectCordoned("fallen off the bus (its driver says that it is lost)");
}

}  // namespace
}  // namespace liger::agent
