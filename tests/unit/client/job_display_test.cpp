#include "client/job_display.h"

#include <gmock/gmock.h>

#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/format.h"

namespace liger::client {
namespace {

using liger::v1::JobStatus;
using liger::v1::WatchJobsResponse;
using testing::HasSubstr;

WatchJobsResponse Running(int64_t epoch, int64_t step) {
  WatchJobsResponse update;
  JobStatus* status = update.mutable_job()->mutable_status();
  status->set_state(JobStatus::RUNNING);
  status->set_epoch(epoch);
  auto* progress = status->mutable_progress();
  progress->set_phase("TRAINING");
  progress->set_step(step);
  progress->set_max_steps(1000);
  progress->set_tokens_per_second(1234);
  progress->set_eta_seconds(3700);
  (*progress->mutable_values())["loss"] = 1.5 + static_cast<double>(step);
  (*progress->mutable_peak_memory_bytes())["rss"] = 3'000'000'000;
  return update;
}

WatchJobsResponse In(JobStatus::State state, const std::string& message,
                     const std::string& action) {
  WatchJobsResponse update;
  update.mutable_job()->mutable_status()->set_state(state);
  update.mutable_job()->mutable_status()->set_message(message);
  update.mutable_job()->mutable_status()->set_action(action);
  return update;
}

TEST(ProgressLineTest, GivesUpSparklineThenHalfTheBarThenPeakThenIsCut) {
  const std::vector<double> losses(20, 2.0);
  const auto job = Running(1, 500).job();
  const std::string whole = ProgressLine(job, losses, 0);
  EXPECT_THAT(whole, HasSubstr("▁"));
  EXPECT_EQ(ProgressLine(job, losses, static_cast<int>(Width(whole))), whole);
  for (int columns = static_cast<int>(Width(whole)); columns > 0; --columns) {
    EXPECT_LE(Width(ProgressLine(job, losses, columns)), static_cast<size_t>(columns));
  }
  EXPECT_EQ(
      ProgressLine(job, losses, 90),
      "[##########----------] 500/1000  loss 501.5  1234 tok/s  peak 3.00 GB rss  ETA 1h01m");
  EXPECT_EQ(ProgressLine(job, losses, 79),
            "[#####-----] 500/1000  loss 501.5  1234 tok/s  peak 3.00 GB rss  ETA 1h01m");
  EXPECT_EQ(ProgressLine(job, losses, 70),
            "[##########----------] 500/1000  loss 501.5  1234 tok/s  ETA 1h01m");
  EXPECT_EQ(ProgressLine(job, losses, 30), "[##########----------] 500/100");
}

TEST(JobDisplayTest, ATerminalsLineIsRedrawnWithinItsWidth) {
  std::ostringstream out;
  int columns = 80;
  JobDisplay display({out, [&] { return columns; }});
  for (int step = 0; step < 30; ++step) display.Update(Running(1, step));
  columns = 40;  // the window was resized
  display.Update(Running(1, 31));
  display.Finish();
  EXPECT_THAT(out.str(), HasSubstr("ETA 1h01m\033[K\r["));
  for (const auto drawn : absl::StrSplit(out.str(), absl::ByAnyChar("\r\n"))) {
    const std::string text(absl::StripSuffix(drawn, "\033[K"));
    EXPECT_LT(Width(text), absl::StrContains(text, "31/1000") ? 40u : 80u) << text;
  }
}

TEST(JobDisplayTest, APipeGetsTheStepsOfEveryAttempt) {
  std::ostringstream out;
  JobDisplay display({out, [] { return 0; }});
  for (const auto& [epoch, step] :
       std::vector<std::pair<int, int>>{{1, 1}, {1, 2}, {1, 2}, {2, 2}, {2, 1}, {2, 2}, {2, 3}}) {
    display.Update(Running(epoch, step));
  }
  std::vector<std::string> steps;
  for (const auto line : absl::StrSplit(out.str(), '\n')) {
    const size_t slash = line.find("/1000");
    if (slash != line.npos) steps.emplace_back(line.substr(slash - 1, 1));
  }
  EXPECT_THAT(steps, testing::ElementsAre("1", "2", "2", "1", "2", "3"));
}

TEST(JobDisplayTest, WhatAJobWaitsForIsPrintedOnceInEveryState) {
  std::ostringstream out;
  JobDisplay display({out, [] { return 0; }});
  for (const JobStatus::State state :
       {JobStatus::VALIDATING, JobStatus::QUEUED, JobStatus::RECOVERING}) {
    display.Update(In(state, "", ""));
    display.Update(In(state, "no worker is connected", "start a liger-worker"));
    display.Update(In(state, "no worker is connected", "start a liger-worker"));
  }
  EXPECT_EQ(out.str(),
            "VALIDATING\nVALIDATING: no worker is connected\n  start a liger-worker\n"
            "QUEUED\nQUEUED: no worker is connected\n  start a liger-worker\n"
            "RECOVERING\nRECOVERING: no worker is connected\n  start a liger-worker\n");
}

TEST(JobDisplayTest, TheEndsCauseIsLeftToTheOutcome) {
  std::ostringstream out;
  JobDisplay display({out, [] { return 0; }});
  const WatchJobsResponse end = In(JobStatus::FAILED, "the loss is NaN", "lower the rate");
  display.Update(end);
  EXPECT_EQ(out.str(), "FAILED\n");
  EXPECT_THAT(Outcome(end.job(), 0),
              HasSubstr("cause:     the loss is NaN\n  action:    lower the rate\n"));
}

TEST(JobDisplayTest, WarningsOfEveryAttemptArePrintedOnce) {
  std::ostringstream out;
  JobDisplay display({out, [] { return 0; }});
  WatchJobsResponse update = In(JobStatus::STARTING, "", "");
  display.Update(update);
  update.mutable_job()->mutable_status()->add_warnings()->set_message("3 rows were dropped");
  display.Update(update);
  update.mutable_job()->mutable_status()->add_warnings()->set_message("2 rows were cut");
  display.Update(update);
  update.mutable_job()->mutable_status()->clear_warnings();
  display.Update(update);
  update.mutable_job()->mutable_status()->add_warnings()->set_message("3 rows were dropped");
  display.Update(update);
  EXPECT_EQ(out.str(),
            "STARTING\nwarning: 3 rows were dropped\nwarning: 2 rows were cut\n"
            "warning: 3 rows were dropped\n");
}

TEST(JobDisplayTest, WhatEachAttemptGoesOnFromIsPrintedOnce) {
  std::ostringstream out;
  JobDisplay display({out, [] { return 0; }});
  WatchJobsResponse update = In(JobStatus::STARTING, "", "");
  auto* status = update.mutable_job()->mutable_status();
  display.Update(update);
  status->mutable_resumed()->set_checkpoint("/out/checkpoint-20");
  status->mutable_resumed()->set_step(20);
  display.Update(update);
  display.Update(update);
  status->clear_resumed();
  display.Update(update);
  status->mutable_resumed()->set_checkpoint("/out/checkpoint-20");
  status->mutable_resumed()->set_step(20);
  display.Update(update);
  EXPECT_EQ(out.str(),
            "STARTING\ngoes on from /out/checkpoint-20, after step 20\n"
            "goes on from /out/checkpoint-20, after step 20\n");
}

TEST(JobDisplayTest, TheOutcomeTellsWhatTrainingBroughtWithinTheTerminal) {
  auto job = In(JobStatus::SUCCEEDED, "", "").job();
  job.set_name("job");
  job.mutable_status()->set_output_uri("/out/job");
  EXPECT_EQ(Outcome(job, 80), "job: SUCCEEDED\n  output:    /out/job\n");
  for (const double loss : {2.5, 2.0, 1.5}) {
    (*job.mutable_status()->add_evaluations()->mutable_values())["eval_loss"] = loss;
  }
  EXPECT_EQ(Outcome(job, 80),
            "job: SUCCEEDED\n  eval loss: 2.5 before, 1.5 after\n  output:    /out/job\n");
  // Of what was saved, and not of what was evaluated behind it.
  for (int i = 0; i < 3; ++i) job.mutable_status()->mutable_evaluations(i)->set_step(20 * (i + 1));
  job.mutable_status()->set_saved_step(40);
  job.mutable_status()->mutable_best()->set_step(40);
  job.mutable_status()->mutable_best()->set_metric("eval_rewards/margins");
  job.mutable_status()->mutable_best()->set_value(0.125);
  EXPECT_EQ(Outcome(job, 80),
            "job: SUCCEEDED\n  eval loss: 2.5 before, 2 after\n"
            "  saved:     step 40, of the best eval_rewards/margins (0.125)\n"
            "  output:    /out/job\n");
  job.mutable_status()->set_message("a cause that is longer than the terminal is wide");
  for (const auto line : absl::StrSplit(Outcome(job, 40), '\n')) {
    EXPECT_LE(Width(std::string(line)), 40u) << line;
  }
}

TEST(JobDisplayTest, LongLinesAreWrappedOnATerminal) {
  std::ostringstream out;
  JobDisplay display({out, [] { return 40; }});
  display.Update(In(JobStatus::QUEUED, "no worker that has the model and data has a GPU",
                    "connect a worker with a GPU, or change resources.device_kind"));
  for (const auto line : absl::StrSplit(out.str(), '\n')) {
    EXPECT_LE(Width(std::string(line)), 40u) << line;
  }
}

}  // namespace
}  // namespace liger::client
