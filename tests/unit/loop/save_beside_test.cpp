// Checkpoints that are written while training goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "tests/unit/loop/resumed_runs.h"
#include "worker/trainer/loop/exit_code.h"
#include "worker/trainer/loop/reporter.h"
#include "worker/trainer/loop/run_task.h"

namespace liger::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Event = liger::trainer::v1::Event;
namespace fs = std::filesystem;

// The first checkpoint is not done before a step was logged, if that comes.
class SlowSave : public RecordingSink {
 public:
  SlowSave(int64_t step, std::chrono::milliseconds limit) : step_(step), limit_(limit) {}

  bool Emit(Event event) override {
    std::unique_lock<std::mutex> lock(mutex_);
    if (event.has_step()) {
      logged_ = event.step().step();
      changed_.notify_all();
    }
    if (event.has_saved() && !std::exchange(saved_one_, true)) {
      came_ = changed_.wait_for(lock, limit_, [&] { return logged_ >= step_; });
      // Time for steps that do not wait.
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      lock.lock();
      logged_at_the_end_ = logged_;
    }
    lock.unlock();
    return RecordingSink::Emit(std::move(event));
  }

  bool came() const { return came_; }
  int64_t logged_at_the_end() const { return logged_at_the_end_; }

 private:
  const int64_t step_;
  const std::chrono::milliseconds limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t logged_ = 0, logged_at_the_end_ = 0;
  bool saved_one_ = false, came_ = false;
};

// Eight steps, checkpoints of the third and the sixth.
Request EveryStepLogged(const TinyJob& job) {
  Request request = WithCheckpoints(job.Sft());
  Training(request).set_logging_steps(1);
  Training(request).set_eval_steps(0);
  return request;
}

int RunWith(const Request& request, EventSink& sink) {
  Reporter reporter({&sink});
  const StopFlag stop;
  return RunTask(request, reporter, stop);
}

std::vector<int64_t> StepsHeldUp(const std::string& attempt_dir) {
  std::vector<int64_t> steps;
  std::ifstream in(attempt_dir + "/model/metrics.jsonl");
  for (std::string line; std::getline(in, line);) {
    const auto object = nlohmann::json::parse(line);
    if (object.contains("save_stall_seconds")) {
      EXPECT_GT(object["save_stall_seconds"].get<double>(), 0);
      steps.push_back(object["step"]);
    }
  }
  return steps;
}

TEST(SaveBesideTest, TrainingGoesOnUntilTheNextOne) {
  const TinyJob job;
  const Request request = EveryStepLogged(job);
  SlowSave sink(6, std::chrono::minutes(2));
  ASSERT_EQ(RunWith(In(request, job.Path("slow")), sink), kExitOk);
  EXPECT_TRUE(sink.came()) << "the save of step 3 held up the steps";
  EXPECT_EQ(sink.logged_at_the_end(), 6) << "the save of step 6 did not wait";
  EXPECT_THAT(StepsHeldUp(job.Path("slow")), testing::ElementsAre(4, 7));

  // What it wrote is of its step, not of those that went on: the same as without any hurry.
  setenv("LIGER_CHECKPOINT_MEMORY", "0", 1);
  testing::internal::CaptureStdout();
  SlowSave waited(4, std::chrono::milliseconds(1));
  EXPECT_EQ(RunWith(In(request, job.Path("waits")), waited), kExitOk);
  const std::string said = testing::internal::GetCapturedStdout();
  unsetenv("LIGER_CHECKPOINT_MEMORY");
  EXPECT_FALSE(waited.came());
  EXPECT_EQ(waited.logged_at_the_end(), 3);
  EXPECT_THAT(said, HasSubstr("checkpoints are written while training waits: a copy takes"));
  for (const int64_t step : {3, 6}) {
    for (const char* file : {"model", "optimizer", "rng_state"}) {
      const std::string name = std::string("/") + file + ".safetensors";
      ExpectSameTensors(Checkpoint(job.Path("slow"), step) + name,
                        Checkpoint(job.Path("waits"), step) + name);
    }
    EXPECT_EQ(Lines(Checkpoint(job.Path("slow"), step) + "/metrics.jsonl"),
              Lines(Checkpoint(job.Path("waits"), step) + "/metrics.jsonl"));
  }
}

// A disk that takes longer than the steps between two checkpoints costs one, not the steps' time.
TEST(SaveBesideTest, OneThatWouldWaitForLongIsLeftOut) {
  class SlowSteps : public SlowSave {
   public:
    SlowSteps() : SlowSave(/*step=*/7, std::chrono::minutes(2)) {}
    bool Emit(Event event) override {
      // Between the two: the first one is far from done, as far as anybody knows.
      const bool last_before = event.has_step() && event.step().step() == 5;
      if (last_before) std::this_thread::sleep_for(std::chrono::milliseconds(5500));
      return SlowSave::Emit(std::move(event));
    }
  };
  const TinyJob job;
  SlowSteps sink;
  ASSERT_EQ(RunWith(In(EveryStepLogged(job), job.Path("slow")), sink), kExitOk);
  EXPECT_TRUE(sink.came()) << "the save of step 3 held up the steps";
  EXPECT_TRUE(fs::exists(Checkpoint(job.Path("slow"), 3)));
  EXPECT_FALSE(fs::exists(Checkpoint(job.Path("slow"), 6)));
  const auto warnings = sink.All(Event::kWarning);
  const auto left_out = std::ranges::find_if(
      warnings, [](const Event& event) { return event.warning().code() == "CheckpointLeftOut"; });
  ASSERT_NE(left_out, warnings.end());
  EXPECT_THAT(left_out->warning().message(),
              AllOf(HasSubstr("no checkpoint of step 6"), HasSubstr("raise training.save_steps")));
}

TEST(SaveBesideTest, AFileOfTheModelThatIsGoneCostsTheCheckpointAlone) {
  struct ConfigGoes : RecordingSink {
    bool Emit(Event event) override {
      if (event.has_step() && event.step().step() == 2) fs::rename(config, config + ".gone");
      if (event.has_warning() && event.warning().code() == "CheckpointNotSaved") {
        fs::rename(config + ".gone", config);
      }
      return RecordingSink::Emit(std::move(event));
    }
    std::string config;
  };
  const TinyJob job;
  ConfigGoes sink;
  sink.config = job.Path("model/config.json");
  ASSERT_EQ(RunWith(EveryStepLogged(job), sink), kExitOk);
  const auto saved = sink.All(Event::kSaved);
  ASSERT_EQ(saved.size(), 2u);
  EXPECT_EQ(saved[0].saved().step(), 6);
  EXPECT_EQ(saved[1].saved().kind(), "model");
}

TEST(SaveBesideTest, WhatTheWriterFailsOfIsTheJobsFailure) {
  const TinyJob job;
  Request request = job.Sft();
  Training(request).set_eval_steps(2);
  Training(request).set_load_best_model_at_end(true);
  fs::create_directories(job.Path("attempt"));
  job.WriteFile("attempt/best", "in the way");
  const TaskOutcome outcome = RunRecorded(In(request, job.Path("attempt")));
  EXPECT_NE(outcome.exit_code, kExitOk);
  EXPECT_THAT(Failure(outcome), HasSubstr("attempt/best is no folder that a job has written"));
  EXPECT_TRUE(outcome.sink.events.back().has_failed());
}

}  // namespace
}  // namespace liger::trainer
