// liger-worker and the ways in which a coordinator is not there; its own HTTP.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/exit_code.h"
#include "tests/unit/agent/agent_fixture.h"
#include "tests/unit/agent/loopback_proxy.h"

namespace liger::agent {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class AgentConnectionTest : public AgentTest {
 protected:
  bool WaitForLog(const AgentProcess& agent, const std::string& text) {
    return coordinator_->WaitUntil([&] { return agent.Log().find(text) != std::string::npos; },
                                   absl::Seconds(30));
  }
  static size_t CountInLog(const AgentProcess& agent, const std::string& text) {
    return std::vector<std::string>(absl::StrSplit(agent.Log(), text)).size() - 1;
  }
};

TEST_F(AgentConnectionTest, ReplacesAConnectionThatWentSilent) {
  LoopbackProxy proxy(coordinator_->port());
  AgentProcess agent(proxy.address());
  agent.Start();
  coordinator_->WaitForHello();
  coordinator_->WaitForHeartbeats(1);
  const absl::Time silenced = absl::Now();
  proxy.Silence();
  coordinator_->WaitForHello(2);
  EXPECT_LT(absl::Now() - silenced, absl::Seconds(20));
  coordinator_->WaitForHeartbeats(3);
}

TEST_F(AgentConnectionTest, TriesAgainWhenNoWelcomeComes) {
  coordinator_->SetWelcome(false);
  agent_.Start();
  coordinator_->WaitForHello();
  EXPECT_TRUE(WaitForLog(agent_, "no Welcome from " + coordinator_->address()));
  coordinator_->SetWelcome(true);
  coordinator_->WaitForHello(2);
  coordinator_->WaitForHeartbeats(1);
}

TEST_F(AgentConnectionTest, SaysOnceWhyThereIsNoSession) {
  const std::string reason = "PROTOCOL_MISMATCH: upgrade the older of the two";
  coordinator_->SetRefusal({grpc::StatusCode::FAILED_PRECONDITION, reason});
  agent_.Start();
  EXPECT_TRUE(WaitForLog(agent_, reason));
  absl::SleepFor(absl::Seconds(1));  // some more attempts
  EXPECT_EQ(CountInLog(agent_, reason), 1u);
  coordinator_->SetRefusal({grpc::StatusCode::FAILED_PRECONDITION, "STALE_INCARNATION: another"});
  EXPECT_TRUE(WaitForLog(agent_, "STALE_INCARNATION")) << "a new reason is told";
}

TEST_F(AgentConnectionTest, SaysThatNobodyAnswersAtTheAddress) {
  const std::string address = coordinator_->address();
  coordinator_.reset();
  AgentProcess agent(address);
  agent.Start();
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (CountInLog(agent, "no session") == 0 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_THAT(agent.Log(), HasSubstr("no session with the coordinator at " + address));
}

TEST_F(AgentConnectionTest, RefusesPlaintextBeyondLoopback) {
  AgentProcess agent("192.0.2.1:7071");
  agent.Start();
  const int status = agent.Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kExitInvalidInput);
  EXPECT_THAT(agent.Log(), HasSubstr("192.0.2.1:7071 is not on loopback"));
  EXPECT_THAT(agent.Log(), HasSubstr("--insecure"));
}

TEST_F(AgentConnectionTest, ANewSessionDropsTheReservationsOfTheLast) {
  StartAgent();
  const std::string device = coordinator_->WaitForHello().devices(0).uuid();
  coordinator_->Prepare(ref_, trainer::v1::TASK_KIND_TRAIN, {device});
  coordinator_->WaitForPrepared(ref_);
  coordinator_->CloseSessions();
  coordinator_->WaitForHello(2);
  coordinator_->WaitForHeartbeats(1);
  coordinator_->Prepare(MakeRef("job-b"), trainer::v1::TASK_KIND_TRAIN, {device});
  EXPECT_GT(coordinator_->WaitForPrepared(MakeRef("job-b")).master().port(), 0);
}

TEST_F(AgentConnectionTest, ServesMetricsAndHealth) {
  StartAgent();
  EXPECT_THAT(agent_.HttpGet("/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(agent_.HttpGet("/readyz"), StartsWith("HTTP/1.1 200"));
  const std::string metrics = agent_.HttpGet("/metrics");
  EXPECT_THAT(metrics, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(metrics, HasSubstr("liger_worker_info{"));
  EXPECT_THAT(metrics, HasSubstr("\nliger_worker_session_connected 1"));
  EXPECT_THAT(metrics, HasSubstr("\nliger_worker_fenced 0"));
  EXPECT_THAT(metrics, HasSubstr("liger_worker_device_busy{device=\"CPU-"));
  EXPECT_THAT(agent_.HttpGet("/nothing"), HasSubstr(" 404 Not Found"));

  // Healthy, but of no use.
  coordinator_.reset();
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (agent_.HttpGet("/readyz").find("200") == 9 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_THAT(agent_.HttpGet("/readyz"), StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(agent_.HttpGet("/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(agent_.HttpGet("/metrics"), HasSubstr("\nliger_worker_session_connected 0"));
}

TEST_F(AgentConnectionTest, AUsedMetricsPortIsAnError) {
  agent_.Start({"--metrics-listen", coordinator_->address()});
  const int status = agent_.Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kExitInvalidInput);
  EXPECT_THAT(agent_.Log(), HasSubstr("cannot listen on " + coordinator_->address()));
}

}  // namespace
}  // namespace liger::agent
