// Runs that are paused, on whole tiny jobs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/loop/resumed_runs.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/reporter.h"
#include "worker/trainer/loop/run_task.h"

namespace liger::trainer {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Event = liger::trainer::v1::Event;

// Asks for a pause while step `at` is under way, or, with 0, before the task begins.
template <typename Sink>
struct Pausing : Sink {
  bool Emit(Event event) override {
    if (event.has_step() && event.step().step() == at) asked.AddPause("p1");
    return Sink::Emit(std::move(event));
  }
  int Run(const Request& request) {
    if (at == 0) asked.AddPause("p1");
    Reporter reporter({this});
    StopFlag stop;
    return RunTask(request, reporter, stop, &asked);
  }
  std::string Answer() const { return this->Last(Event::kCommandDone).command_done().status(); }

  int64_t at = 0;
  CheckpointRequests asked;
};

// Paused in a step that saves none by itself, the run goes on to the last bit.
void ExpectGoesOn(Request request, const TinyJob& job, int64_t at) {
  const TaskOutcome whole = RunRecorded(In(request, job.Path("whole")));
  ASSERT_EQ(whole.exit_code, kExitOk) << Failure(whole);
  Pausing<RecordingSink> sink;
  sink.at = at;
  ASSERT_EQ(sink.Run(In(request, job.Path("part"))), kExitPaused);
  EXPECT_EQ(sink.Answer(), "ok");
  EXPECT_EQ(sink.events.back().paused().step(), at) << "the last word";
  const auto saved = sink.All(Event::kSaved);
  ASSERT_FALSE(saved.empty());
  EXPECT_EQ(saved.back().saved().kind(), "checkpoint");
  EXPECT_EQ(saved.back().saved().step(), at);
  EXPECT_FALSE(std::filesystem::exists(job.Path("part/model")));
  const TaskOutcome rest =
      RunRecorded(From(In(request, job.Path("rest")), Checkpoint(job.Path("part"), at)));
  ASSERT_EQ(rest.exit_code, kExitOk) << Failure(rest);
  EXPECT_EQ(rest.sink.All(Event::kWarning).size(), whole.sink.All(Event::kWarning).size());
  EXPECT_EQ(Lines(job.Path("rest/model/metrics.jsonl")),
            Lines(job.Path("whole/model/metrics.jsonl")));
  ExpectSameTensors(job.Path("rest/model/model.safetensors"),
                    job.Path("whole/model/model.safetensors"));
}

TEST(PauseTest, AfterItsStepAndOnBitForBit) {
  const TinyJob job;
  Request request = job.Sft();
  Training(request).set_deterministic(true);
  ExpectGoesOn(request, job, 2);
}

TEST(PauseTest, AtAStepThatSavesAnywayThereIsOneCheckpoint) {
  const TinyJob job;
  Pausing<RecordingSink> sink;
  sink.at = 6;  // logs every 2, saves every 3
  ASSERT_EQ(sink.Run(WithCheckpoints(job.Sft())), kExitPaused);
  EXPECT_THAT(sink.All(Event::kSaved), SizeIs(2)) << "of steps 3 and 6";
}

TEST(PauseTest, BeforeTheFirstStepThereIsNothingToSave) {
  const TinyJob job;
  Pausing<RecordingSink> sink;
  ASSERT_EQ(sink.Run(job.Sft()), kExitPaused);
  EXPECT_EQ(sink.Answer(), "ok");
  EXPECT_EQ(sink.events.back().paused().step(), 0);
  EXPECT_THAT(sink.All(Event::kSaved), IsEmpty());
  EXPECT_THAT(sink.All(Event::kStep), IsEmpty());
}

TEST(PauseTest, AfterTheLastStepTheJobIsDone) {
  const TinyJob job;
  Pausing<RecordingSink> sink;
  sink.at = 8;
  ASSERT_EQ(sink.Run(job.Sft()), kExitOk);
  EXPECT_THAT(sink.Answer(), HasSubstr("not paused: the task has no further step"));
  EXPECT_TRUE(sink.events.back().has_done());
}

TEST(PauseTest, WithoutRoomForTheCheckpointItGoesOn) {
  const TinyJob job;
  signal(SIGXFSZ, SIG_IGN);  // so that the write fails
  Pausing<FullDisk> sink;
  sink.at = 4;
  EXPECT_EQ(sink.Run(WithCheckpoints(job.Sft())), kExitOk);
  FullDisk::LimitFiles(RLIM_INFINITY);
  EXPECT_THAT(sink.Answer(), HasSubstr("no checkpoint of step 4"));
  const auto warning = sink.Last(Event::kWarning).warning();
  EXPECT_EQ(warning.code(), kNotPausedCode);
  EXPECT_THAT(warning.message(), HasSubstr("is not paused and goes on: no checkpoint of step 4"));
}

// The attempt's folder is on another disk than the place where the agent publishes.
TEST(PauseTest, WithoutAPlaceForTheCheckpointItGoesOn) {
  struct OutputGoes : Pausing<RecordingSink> {
    bool Emit(Event event) override {
      if (event.has_step() && event.step().step() == at) {
        std::filesystem::remove_all(place);
        std::ofstream(place) << "in the way";
      }
      return Pausing::Emit(std::move(event));
    }
    std::string place;
  };
  const TinyJob job;
  OutputGoes sink;
  sink.at = 4;
  sink.place = job.Path("outputs");
  std::filesystem::create_directory(sink.place);
  Request request = WithCheckpoints(job.Sft());
  request.launch.set_output_dir(job.Path("outputs/job"));
  EXPECT_EQ(sink.Run(request), kExitOk);
  EXPECT_THAT(sink.All(Event::kSaved), SizeIs(2)) << "of step 3, and the model";
  EXPECT_THAT(sink.Answer(), HasSubstr("no checkpoint of step 4: output.uri: nothing can be "));
  EXPECT_EQ(sink.Last(Event::kWarning).warning().code(), "CheckpointNotSaved") << "of step 6";
}

}  // namespace
}  // namespace liger::trainer
