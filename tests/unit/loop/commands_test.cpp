#include "worker/trainer/loop/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/framing.h"
#include "tests/unit/loop/tiny_job.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using Event = liger::trainer::v1::Event;
using liger::trainer::v1::Command;

class CommandsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(pipe(fds_), 0); }
  void TearDown() override {
    close(fds_[0]);
    CloseWriter();
  }
  void CloseWriter() {
    if (fds_[1] >= 0) close(fds_[1]);
    fds_[1] = -1;
  }
  void Send(const Command& command) { ASSERT_TRUE(WriteFrame(fds_[1], command).ok()); }
  bool WaitForStop(absl::Duration limit = absl::Seconds(5)) const {
    const absl::Time end = absl::Now() + limit;
    while (!stop_.requested() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(2));
    return stop_.requested();
  }
  std::unique_ptr<CommandReader> Start() {
    return std::make_unique<CommandReader>(fds_[0], stop_, checkpoints_, reporter_,
                                           [this](int code) { exit_code_ = code; });
  }

  int fds_[2] = {-1, -1};
  RecordingSink sink_;
  Reporter reporter_{{&sink_}};
  StopFlag stop_;
  CheckpointRequests checkpoints_;
  std::atomic<int> exit_code_{-1};
};

TEST_F(CommandsTest, StopIsAcknowledgedAndCarriesItsReason) {
  const auto reader = Start();
  Command command;
  command.set_command_id("c1");
  command.mutable_stop()->set_reason("cancelled by ada");
  command.mutable_stop()->set_grace_seconds(60);
  Send(command);
  ASSERT_TRUE(WaitForStop());
  try {
    stop_.Check();
    FAIL();
  } catch (const StopRequested& stopped) {
    EXPECT_STREQ(stopped.what(), "cancelled by ada");
  }
}

TEST_F(CommandsTest, ExitsItselfAfterTheGrace) {
  const auto reader = Start();
  Command command;
  command.mutable_stop()->set_grace_seconds(0);  // raised to one second
  Send(command);
  ASSERT_TRUE(WaitForStop());
  EXPECT_EQ(exit_code_, -1) << "no grace was given";
  absl::SleepFor(absl::Milliseconds(1500));
  EXPECT_EQ(exit_code_, kExitStopped);
}

TEST_F(CommandsTest, EndOfFileStopsWithinFiveSeconds) {
  const auto reader = Start();
  CloseWriter();
  const absl::Time start = absl::Now();
  ASSERT_TRUE(WaitForStop());
  while (exit_code_ == -1 && absl::Now() - start < absl::Seconds(10)) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_EQ(exit_code_, kExitStopped);
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

TEST_F(CommandsTest, CheckpointsAndPausesWaitForTheStepAndReadingGoesOn) {
  {
    const auto reader = Start();
    Command checkpoint, pause, stop;
    checkpoint.set_command_id("c1");
    checkpoint.mutable_checkpoint();
    pause.set_command_id("c2");
    pause.mutable_pause();
    stop.set_command_id("c3");
    stop.mutable_stop()->set_grace_seconds(60);
    Send(checkpoint);
    Send(pause);
    Send(stop);
    ASSERT_TRUE(WaitForStop());
  }
  // The training loop answers these once the checkpoint is saved.
  EXPECT_THAT(checkpoints_.Take(), testing::ElementsAre("c1"));
  EXPECT_TRUE(checkpoints_.pause_requested());
  EXPECT_THAT(checkpoints_.TakePauses(), testing::ElementsAre("c2"));
  EXPECT_FALSE(checkpoints_.pause_requested());
  const auto answers = sink_.All(Event::kCommandDone);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].command_done().command_id(), "c3");
  EXPECT_EQ(answers[0].command_done().status(), "ok");
}

TEST_F(CommandsTest, GarbageStops) {
  const auto reader = Start();
  const std::string garbage(64, '\xff');
  ASSERT_EQ(write(fds_[1], garbage.data(), garbage.size()), ssize_t(garbage.size()));
  EXPECT_TRUE(WaitForStop());
}

TEST_F(CommandsTest, EndsAtOnceWhenTheTaskIsDone) {
  const absl::Time start = absl::Now();
  Start().reset();
  EXPECT_LT(absl::Now() - start, absl::Seconds(1));
  EXPECT_FALSE(stop_.requested());
}

}  // namespace
}  // namespace liger::trainer
