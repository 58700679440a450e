// Ranks that do not find each other: who is missing, and what to do, is said in time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/unique_fd.h"
#include "tests/unit/loop/tiny_job.h"
#include "tests/unit/parallel/rank_processes.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr absl::Duration kLimit = absl::Minutes(1);  // of a busy machine

class JoinTest : public testing::Test {
 protected:
  // A job of `count` ranks; those that are to come find their job file.
  std::string Arguments(int count, std::initializer_list<int> come) const {
    for (const int rank : come) {
      job_.WriteFile("job-" + std::to_string(rank) + ".yaml",
                     "model: {name: " + job_.Path("model") + ", random_init: true}\n" +
                         "dataset: {uri: " + job_.Path("sft.jsonl") + "}\nsft: {}\n" +
                         Resources(count) + "training: {max_steps: 1, max_length: 64}\n");
    }
    return "--spec " + job_.Path("job-") + "$RANK.yaml --output " + job_.Path("out");
  }

  const TinyJob job_;
};

TEST_F(JoinTest, AllThatCameNameTheRankThatDidNot) {
  RankProcesses processes(3, Arguments(3, {0, 1}), job_.Path("log"), {{"LIGER_JOIN_TIMEOUT", "6"}});
  for (const int rank : {0, 1}) {
    EXPECT_EQ(processes.WaitFor(rank, kLimit), kExitFailed);
    EXPECT_THAT(processes.Output(rank),
                AllOf(HasSubstr("error: rank 2 of 3 did not join the gang at 127.0.0.1:"),
                      HasSubstr("within 6s"), HasSubstr("--advertise-address")));
  }
}

TEST_F(JoinTest, ARank0ThatIsNotReachedIsNamed) {
  // As ranks of several hosts, to which loopback is another host each.
  RankProcesses processes(2, Arguments(2, {1}), job_.Path("log"),
                          {{"LIGER_JOIN_TIMEOUT", "1"}, {"LOCAL_WORLD_SIZE", "1"}});
  EXPECT_EQ(processes.WaitFor(1, kLimit), kExitFailed);
  EXPECT_THAT(
      processes.Output(1),
      AllOf(HasSubstr("error: rank 1 cannot reach rank 0 at 127.0.0.1:"),
            HasSubstr("for 6s: Connection refused"),
            HasSubstr("127.0.0.1 is reached from rank 0's own host alone: give its worker")));
}

TEST_F(JoinTest, WhatListensThereAndDoesNotAnswerIsNotWaitedForLong) {
  const UniqueFd listens(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listens.get(), generic, size), 0);
  ASSERT_EQ(getsockname(listens.get(), generic, &size), 0);
  ASSERT_EQ(listen(listens.get(), 8), 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  RankProcesses processes(2, Arguments(2, {1}), job_.Path("log"),
                          {{"LIGER_JOIN_TIMEOUT", "1"}, {"MASTER_PORT", port}});
  EXPECT_EQ(processes.WaitFor(1, kLimit), kExitFailed);
  EXPECT_THAT(processes.Output(1),
              HasSubstr("error: rank 1 gets no answer from rank 0 at 127.0.0.1:" + port));
}

TEST_F(JoinTest, AnInterfaceThatIsNotThereIsItsRanks) {
  RankProcesses processes(2, Arguments(2, {0, 1}), job_.Path("log"),
                          {{"LOCAL_WORLD_SIZE", "1"}, {"GLOO_SOCKET_IFNAME", "none0"}});
  EXPECT_EQ(processes.WaitFor(0, kLimit), kExitFailed);
  EXPECT_THAT(processes.Output(0), AllOf(HasSubstr("rank 0 has no network interface none0"),
                                         Not(HasSubstr("cannot connect"))));
  EXPECT_EQ(processes.WaitFor(1, kLimit), kExitFailed);
}

}  // namespace
}  // namespace liger::trainer
