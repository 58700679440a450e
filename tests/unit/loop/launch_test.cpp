// Starts the real liger-trainer as an agent does.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/file_state.h"
#include "common/framing.h"
#include "tests/unit/loop/trainer_program.h"
#include "worker/trainer/loop/exit_code.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;
using Event = liger::trainer::v1::Event;
namespace fs = std::filesystem;

// As the agent does: Launch file, events file, command pipe.
class LaunchTest : public TrainerProgramTest {
 protected:
  void SetUp() override {
    events_fd_ = open(job_.Path("events").c_str(), O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
    ASSERT_EQ(pipe2(commands_, O_CLOEXEC), 0);
  }
  void TearDown() override {
    close(events_fd_);
    close(commands_[0]);
    if (commands_[1] >= 0) close(commands_[1]);
  }
  std::unique_ptr<Process> Start(const Request& request, const std::string& program = Trainer()) {
    job_.WriteFile("launch", request.launch.SerializeAsString());
    return std::make_unique<Process>("LIGER_EVENTS_FD=" + std::to_string(events_fd_) +
                                         " LIGER_COMMANDS_FD=" + std::to_string(commands_[0]) +
                                         " exec " + program + " --launch " + job_.Path("launch") +
                                         " >" + Log() + " 2>&1",
                                     std::vector<int>{events_fd_, commands_[0]});
  }
  RecordingSink Events() const {
    RecordingSink sink;
    FrameReader reader;
    reader.Append(ReadAll(job_.Path("events")));
    std::string payload;
    while (reader.Next(&payload) == FrameReader::Result::kFrame) {
      Event event;
      event.ParseFromString(payload);
      sink.Emit(event);
    }
    return sink;
  }
  // A job that would run for minutes, once it has trained a step.
  std::unique_ptr<Process> StartLong() {
    Request request = job_.Sft();
    request.launch.mutable_resolved_spec()->mutable_training()->set_max_steps(1000000);
    auto process = Start(request);
    AwaitStep();
    return process;
  }
  void AwaitStep() {
    const absl::Time end = absl::Now() + absl::Seconds(60);
    while (Events().All(Event::kStep).empty() && absl::Now() < end) {
      absl::SleepFor(absl::Milliseconds(20));
    }
    EXPECT_FALSE(Events().All(Event::kStep).empty()) << output();
  }

  int events_fd_ = -1;
  int commands_[2] = {-1, -1};
};

TEST_F(LaunchTest, EventsEndWithSavedAndDone) {
  auto process = Start(job_.Sft());
  EXPECT_EQ(process->Wait(absl::Seconds(120)), kExitOk) << output();
  const RecordingSink sink = Events();
  ASSERT_GT(sink.events.size(), 4u);
  EXPECT_TRUE(sink.events.back().has_done());
  const auto saved = sink.Last(Event::kSaved).saved();
  EXPECT_TRUE(fs::exists(fs::path(saved.dir()) / "model.safetensors"));
  EXPECT_GT(saved.bytes(), 0);
}

TEST_F(LaunchTest, SaysWhatCodeItRanAsTheAgentIsTold) {
  ASSERT_EQ(Execute("--list-code"), kExitOk) << output();
  std::vector<std::string> files = absl::StrSplit(output(), '\n', absl::SkipEmpty());
  ASSERT_EQ(files.back(), "end");
  files.pop_back();
  EXPECT_THAT(files, testing::Contains(HasSubstr("/liger_arrow.so")));
  auto process = Start(job_.Sft());
  ASSERT_EQ(process->Wait(absl::Seconds(120)), kExitOk) << output();
  EXPECT_EQ(Events().Last(Event::kInputs).inputs().digests().at("code"), FileStatesDigest(files));
}

TEST_F(LaunchTest, AProgramThatIsReplacedWhileItRunsIsNotTheOneThatIsThere) {
  const std::string program = job_.Path("liger-trainer");
  fs::copy_file(Trainer(), program);
  Request request = job_.Sft();
  request.launch.mutable_resolved_spec()->mutable_training()->set_max_steps(1000000);
  auto process = Start(request, program);
  AwaitStep();
  fs::copy_file(Trainer(), program + ".new");
  fs::rename(program + ".new", program);
  liger::trainer::v1::Command command;
  command.set_command_id("c1");
  command.mutable_pause();
  ASSERT_TRUE(WriteFrame(commands_[1], command).ok());
  ASSERT_EQ(process->Wait(absl::Seconds(120)), kExitPaused) << output();
  const auto digests = Events().Last(Event::kInputs).inputs().digests();
  EXPECT_FALSE(digests.contains("code"));
  EXPECT_TRUE(digests.contains("dataset file"));
}

TEST_F(LaunchTest, CheckResultIsAnEvent) {
  Request request = job_.Sft();
  request.launch.set_task_kind(liger::trainer::v1::TASK_KIND_CHECK);
  request.launch.mutable_resolved_spec()->mutable_dataset()->set_uri("/no/such/file");
  auto process = Start(request);
  EXPECT_EQ(process->Wait(absl::Seconds(60)), kExitInvalidInput) << output();
  EXPECT_EQ(Events().Last(Event::kCheckResult).check_result().violations_size(), 1);
}

TEST_F(LaunchTest, StopCommandEndsTheTaskInTime) {
  auto process = StartLong();
  liger::trainer::v1::Command command;
  command.set_command_id("c7");
  command.mutable_stop()->set_grace_seconds(5);
  ASSERT_TRUE(WriteFrame(commands_[1], command).ok());
  EXPECT_EQ(process->Wait(absl::Seconds(8)), kExitStopped);
  EXPECT_EQ(Events().Last(Event::kCommandDone).command_done().command_id(), "c7");
  EXPECT_FALSE(fs::exists(job_.Path("attempt/model")));
}

TEST_F(LaunchTest, EndOfTheCommandPipeEndsTheTaskInFiveSeconds) {
  auto process = StartLong();
  close(commands_[0]);
  close(commands_[1]);
  commands_[1] = -1;
  EXPECT_EQ(process->Wait(absl::Seconds(5)), kExitStopped);
  commands_[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

}  // namespace
}  // namespace liger::trainer
