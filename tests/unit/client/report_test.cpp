#include "client/report/report.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include "client/report/charts.h"
#include "client/report/plot.h"
#include "client/report/statistics.h"
#include "common/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace liger::client {
namespace {

using liger::v1::Experiment;
using liger::v1::ExperimentJob;
using JobRun = liger::v1::Run;  // a test has a member of that name
using ::testing::HasSubstr;
using ::testing::Not;

constexpr auto kLiger = liger::v1::KERNEL_MODE_LIGER;
constexpr auto kBaseline = liger::v1::KERNEL_MODE_BASELINE;

// An experiment with the runs of its jobs, as a coordinator answers. LIGER takes
// `liger_seconds` a step of 1000 tokens, BASELINE 1 s; a first step of 9 s warms up.
struct Answers {
  Experiment experiment;
  std::map<std::string, JobRun> runs;

  ReportData Data() const { return FromExperiment(experiment, runs); }
};

JobRun RunOf(const std::string& name, liger::v1::KernelMode kernels, double seconds, int steps,
             double loss_shift) {
  JobRun run;
  run.mutable_job()->set_uid("uid-" + name);
  run.mutable_job()->set_name(name);
  run.mutable_job()->set_spec_hash("sha256:0123456789abcdef0123456789abcdef");
  run.mutable_job()->mutable_resolved_spec()->mutable_kernels()->set_mode(kernels);
  run.mutable_job()->mutable_resolved_spec()->mutable_model()->set_name("tiny");
  auto* status = run.mutable_job()->mutable_status();
  status->set_state(liger::v1::JobStatus::SUCCEEDED);
  (*status->mutable_progress()->mutable_peak_memory_bytes())["allocated"] =
      kernels == kLiger ? 2'000'000'000 : 5'000'000'000;
  auto* op = status->add_kernels_ran();
  op->set_op("rms_norm");
  op->set_path(kernels == kLiger ? "cuda" : "baseline");
  run.mutable_environment()->set_device("cuda:0 NVIDIA H100 80GB HBM3");
  run.mutable_environment()->set_device_model("NVIDIA H100 80GB HBM3");
  run.mutable_environment()->set_build("0.1.0+1a2b3c");
  (*run.mutable_environment()->mutable_versions())["nvidia-driver"] = "550.54.15";
  (*run.mutable_environment()->mutable_device_state())["sm clock"] = "1980 MHz";
  for (int step = 1; step <= steps; ++step) {
    auto* point = run.add_points();
    point->set_step(step);
    const double took = step == 1 ? 9 : seconds * (1 + 0.02 * (step % 3));
    (*point->mutable_values())["step_seconds"] = took;
    (*point->mutable_values())["tokens_per_second"] = 1000 / took;
    (*point->mutable_values())["loss"] = 3.0 / step + loss_shift * step;
  }
  return run;
}

Answers Grid(const std::vector<std::string>& batch_sizes, int runs, int steps,
             double liger_seconds = 0.5) {
  Answers answers;
  Experiment& experiment = answers.experiment;
  experiment.set_uid("e1");
  experiment.set_name("grid");
  experiment.set_state(Experiment::SUCCEEDED);
  experiment.set_message("all jobs gave a result");
  experiment.mutable_spec()->add_kernels(kLiger);
  experiment.mutable_spec()->add_kernels(kBaseline);
  auto* axis = experiment.mutable_spec()->add_grid();
  axis->set_field("training.per_device_train_batch_size");
  for (const std::string& size : batch_sizes) {
    axis->add_values(size);
    auto* value = experiment.add_points()->add_values();
    value->set_field(axis->field());
    value->set_value(size);
  }
  for (int run = 0; run < runs; ++run) {
    for (int point = 0; point < experiment.points_size(); ++point) {
      for (const auto kernels : {kLiger, kBaseline}) {
        ExperimentJob* job = experiment.add_jobs();
        job->set_point(point);
        job->set_run(run);
        job->set_kernels(kernels);
        job->set_outcome(ExperimentJob::SUCCEEDED);
        job->set_job_name("grid-" + std::to_string(experiment.jobs_size()));
        job->set_job_uid("uid-" + job->job_name());
        const double slower = 1 + 0.01 * run;
        answers.runs[job->job_uid()] =
            RunOf(job->job_name(), kernels, (kernels == kLiger ? liger_seconds : 1) * slower, steps,
                  kernels == kLiger ? 0 : 0.001);
      }
    }
  }
  return answers;
}

void RunOutOfMemory(Answers* answers, int point, liger::v1::KernelMode kernels) {
  for (ExperimentJob& job : *answers->experiment.mutable_jobs()) {
    if (job.point() != point || job.kernels() != kernels) continue;
    job.set_outcome(ExperimentJob::OUT_OF_MEMORY);
    job.set_message("the device ran out of memory");
    answers->runs[job.job_uid()].clear_points();
  }
}

size_t Count(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST(StatisticsTest, SpeedLeavesOutTheFirstStep) {
  const ReportData data = Grid({"8"}, 1, 4).Data();
  const double expected = 3000 / (0.5 * (1.04 + 1.0 + 1.02));
  EXPECT_NEAR(TokensPerSecond(data.runs[0]), expected, 1e-9);
  RunData one = data.runs[0];
  one.steps.resize(1);
  EXPECT_NEAR(TokensPerSecond(one), 1000.0 / 9, 1e-9) << "there is no other";
  one.steps.clear();
  EXPECT_EQ(TokensPerSecond(one), 0);
}

TEST(StatisticsTest, TheRatioLiesInItsIntervalAndIsTheSameEachTime) {
  const ReportData data = Grid({"8"}, 3, 10).Data();
  const auto ratio = SpeedRatio(data, 0, 0, 1);
  ASSERT_TRUE(ratio.has_value());
  EXPECT_NEAR(ratio->ratio, 2, 1e-9);
  EXPECT_LE(ratio->low, ratio->ratio);
  EXPECT_GE(ratio->high, ratio->ratio);
  const auto again = SpeedRatio(data, 0, 0, 1);
  EXPECT_EQ(ratio->low, again->low);
  EXPECT_EQ(ratio->high, again->high);
}

TEST(StatisticsTest, TheIntervalIsAsWideAsTheRunsDiffer) {
  Answers answers = Grid({"8"}, 2, 10);
  // One run has a ratio of 2, the other of 1.
  for (auto& point : *answers.runs.begin()->second.mutable_points()) {
    (*point.mutable_values())["step_seconds"] = 1;
    (*point.mutable_values())["tokens_per_second"] = 1000;
  }
  const auto ratio = SpeedRatio(answers.Data(), 0, 0, 1);
  ASSERT_TRUE(ratio.has_value());
  EXPECT_LT(ratio->low, 1.1);
  EXPECT_GT(ratio->high, 1.9);
  // Who divides the speeds of the table gets the ratio beside them.
  const ReportData data = answers.Data();
  EXPECT_NEAR(ratio->ratio,
              CellOf(data, 0, 0).tokens_per_second.mean / CellOf(data, 0, 1).tokens_per_second.mean,
              1e-12);
  EXPECT_THAT(SpeedRatioText(data, 0), testing::EndsWith(")"));
}

TEST(StatisticsTest, ARatioOfSomeRunsSaysOfHowMany) {
  ReportData data = Grid({"8"}, 3, 4).Data();
  for (RunData& run : data.runs) {
    if (run.series == 1 && run.run > 0) run.outcome = liger::v1::ExperimentJob::FAILED;
  }
  EXPECT_EQ(SpeedRatio(data, 0, 0, 1)->runs, 1);
  EXPECT_THAT(SpeedRatioText(data, 0), testing::EndsWith("), 1 run of both"));
}

TEST(StatisticsTest, NoRatioWithoutBothSides) {
  Answers answers = Grid({"8"}, 1, 4);
  RunOutOfMemory(&answers, 0, kBaseline);
  EXPECT_FALSE(SpeedRatio(answers.Data(), 0, 0, 1).has_value());
  EXPECT_FALSE(LargestLossGap(answers.Data(), 0, 0, 1).has_value());
  EXPECT_EQ(CellOf(answers.Data(), 0, 1).out_of_memory, 1);
}

TEST(StatisticsTest, OnlyWhatFailedCountsAsFailed) {
  Answers answers = Grid({"8"}, 5, 4);
  auto& jobs = *answers.experiment.mutable_jobs();
  jobs[2].set_outcome(ExperimentJob::FAILED);  // LIGER: every second one
  jobs[4].set_outcome(ExperimentJob::CANCELLED);
  jobs[6].set_outcome(ExperimentJob::ACTIVE);
  jobs[8].set_outcome(ExperimentJob::PENDING);
  const ReportData data = answers.Data();
  const Cell cell = CellOf(data, 0, 0);
  EXPECT_EQ(cell.tokens_per_second.count, 1);
  EXPECT_EQ(cell.failed, 1);
  EXPECT_EQ(cell.cancelled, 1);
  EXPECT_EQ(cell.not_over, 2);
  EXPECT_THAT(ReportTable(data, 0), HasSubstr("1/5, 1 failed, 1 cancelled, 2 not over"));
  EXPECT_THAT(ReportHtml(data), HasSubstr(">1 failed, 1 cancelled, 2 not over<"));
  EXPECT_EQ(RemainderText(CellOf(data, 0, 1), true), "");
}

TEST(StatisticsTest, LargestLossDifferenceWithItsPlace) {
  const auto gap = LargestLossGap(Grid({"8"}, 2, 10).Data(), 0, 0, 1);
  ASSERT_TRUE(gap.has_value());
  EXPECT_NEAR(gap->largest, 0.010, 1e-12);
  EXPECT_EQ(gap->step, 10);
  EXPECT_NEAR(gap->relative, 0.010 / 0.310, 1e-9);
}

TEST(StatisticsTest, SpreadAndQuantiles) {
  const Spread spread = SpreadOf({1, 2, 3, 4});
  EXPECT_NEAR(spread.mean, 2.5, 1e-12);
  EXPECT_NEAR(spread.deviation, std::sqrt(5.0 / 3), 1e-12);
  EXPECT_EQ(SpreadOf({}).count, 0);
  EXPECT_NEAR(Quantile({1, 2, 3, 4}, 0.25), 1.75, 1e-12);  // numpy.quantile
  EXPECT_EQ(Quantile({7}, 0.9), 7);
}

TEST(PlotTest, TicksAreRoundAndInside) {
  std::vector<std::string> labels;
  for (const auto& tick : NiceTicks(0, 1.05, 5)) labels.push_back(tick.label);
  EXPECT_THAT(labels, ::testing::ElementsAre("0.00", "0.25", "0.50", "0.75", "1.00"));
  labels.clear();
  for (const auto& tick : NiceTicks(0, 52000, 5)) labels.push_back(tick.label);
  EXPECT_EQ(labels.back(), "40k");
  EXPECT_EQ(NiceTicks(3, 3, 5).size(), 1u);
}

TEST(ReportTest, HtmlIsOnePageThatAsksForNothing) {
  Answers answers = Grid({"8", "16", "32"}, 3, 10);
  RunOutOfMemory(&answers, 2, kBaseline);
  const std::string html = ReportHtml(answers.Data());
  for (const char* outside :
       {"http://", "https://", "<script src", "<link rel=\"stylesheet", "@import", "url("}) {
    EXPECT_THAT(html, Not(HasSubstr(outside)));
  }
  for (const char* inside : {"prefers-color-scheme: dark", "@media print", "OOM", "NVIDIA H100",
                             "550.54.15", "rms_norm", "sha256:0123", "1980 MHz", "0.1.0+1a2b3c"}) {
    EXPECT_THAT(html, HasSubstr(inside));
  }
  // Speed, memory, ratio, step times, and a loss for each point.
  EXPECT_EQ(Count(html, "<svg"), 4u + 3u);
}

TEST(ReportTest, APointIsNamedOnceBeforeItsRows) {
  Answers answers = Grid({"8", "16"}, 1, 3);
  std::string html = ReportHtml(answers.Data());
  EXPECT_EQ(Count(html, ">per_<wbr>device_<wbr>train_<wbr>batch_<wbr>size</th>"), 2u)
      << "the comparison, the jobs";
  EXPECT_EQ(Count(html, "<td rowspan=\"2\">16</td><td>LIGER</td>"), 1u);
  EXPECT_EQ(Count(html, "<tr><td>BASELINE</td>"), 2u);
  // With a second axis no one name is above all values.
  answers.experiment.mutable_spec()->add_grid()->set_field("training.max_length");
  for (auto& point : *answers.experiment.mutable_points()) {
    auto* value = point.add_values();
    value->set_field("training.max_length");
    value->set_value("64");
  }
  html = ReportHtml(answers.Data());
  EXPECT_THAT(html, HasSubstr(">point</th>"));
  EXPECT_THAT(html,
              HasSubstr("<td rowspan=\"2\">per_device_train_batch_size 16, max_length 64</td>"));
}

TEST(ReportTest, WhatUsersNameIsEscaped) {
  Answers answers = Grid({"<b>8</b>"}, 1, 3);
  answers.experiment.set_message("<script>alert('x')</script> & \"more\"");
  const std::string html = ReportHtml(answers.Data());
  EXPECT_THAT(html, Not(HasSubstr("<script>")));
  EXPECT_THAT(html, Not(HasSubstr("<b>8")));
  EXPECT_THAT(html,
              HasSubstr("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;more&quot;"));
}

TEST(ReportTest, JobsWithoutMetricsGiveAReportThatSaysSo) {
  Answers answers = Grid({"8"}, 1, 0);
  for (auto& [uid, run] : answers.runs) {
    run.mutable_job()->mutable_status()->mutable_progress()->clear_peak_memory_bytes();
  }
  const std::string html = ReportHtml(answers.Data());
  EXPECT_EQ(Count(html, "<svg"), 0u);
  EXPECT_THAT(html, HasSubstr("No job has logged a step"));
  EXPECT_THAT(ReportTable(answers.Data(), 0), HasSubstr("LIGER"));
}

TEST(ReportTest, TableAndCsv) {
  Answers answers = Grid({"8", "16"}, 2, 10);
  RunOutOfMemory(&answers, 1, kBaseline);
  const ReportData data = answers.Data();
  const std::string table = ReportTable(data, 0);
  EXPECT_THAT(table, HasSubstr("2.000 ("));
  EXPECT_THAT(table, HasSubstr("0/2, 2 OOM"));
  EXPECT_EQ(Count(StepsCsv(data), "\n"), 1u + 6u * 10u);
  EXPECT_EQ(Count(JobsCsv(data), "\n"), 1u + 8u);
  EXPECT_THAT(JobsCsv(data), HasSubstr("OUT_OF_MEMORY"));
}

TEST(ReportTest, CsvCellsAreQuotedAndNoFormulas) {
  Answers answers = Grid({"8, or \"more\"", "=1+1"}, 1, 2);
  const std::string csv = StepsCsv(answers.Data());
  EXPECT_THAT(csv, HasSubstr("\"per_device_train_batch_size 8, or \"\"more\"\"\","));
  Answers named = Grid({"8"}, 1, 2);
  named.runs.begin()->second.mutable_job()->set_name("=cmd");
  EXPECT_THAT(StepsCsv(named.Data()), HasSubstr("\"'=cmd\""));
}

TEST(ReportTest, JsonHasTheNumbersOfThePage) {
  const nlohmann::json json = nlohmann::json::parse(ReportJson(Grid({"8"}, 2, 10).Data()));
  EXPECT_NEAR(json["points"][0]["speed_ratio"]["ratio"].get<double>(), 2, 1e-9);
  EXPECT_EQ(json["runs"].size(), 4u);
  EXPECT_EQ(json["runs"][0]["steps"].size(), 10u);
  EXPECT_EQ(json["runs"][0]["kernels_ran"]["rms_norm"], "cuda");
  EXPECT_EQ(json["runs"][0]["environment"]["versions"]["nvidia-driver"], "550.54.15");
}

TEST(ChartsTest, LinesGoThroughTheirDots) {
  const std::string svg = SpeedCharts(Grid({"8", "16"}, 2, 10).Data()).front().svg;
  for (const char* name : {"s0", "s1"}) {
    const std::string series = name;
    const std::string dot = "<circle class=\"mark dot " + series + "\" cx=\"";
    ASSERT_THAT(svg, HasSubstr(dot));
    const size_t at = svg.find(dot) + dot.size();
    const std::string x = svg.substr(at, svg.find('"', at) - at);
    EXPECT_THAT(svg, HasSubstr("<path class=\"mark line " + series + "\" d=\"M" + x + " "));
  }
}

TEST(CompareTest, JobsThatDifferInMoreThanTheKernelsSaySo) {
  const JobRun liger = RunOf("a", kLiger, 0.5, 6, 0);
  JobRun baseline = RunOf("b", kBaseline, 1, 6, 0);
  EXPECT_TRUE(FromJobs(liger, baseline).differences.empty());
  baseline.mutable_job()->mutable_resolved_spec()->mutable_training()->set_max_length(256);
  baseline.mutable_environment()->set_device_model("NVIDIA A100");
  const ReportData data = FromJobs(liger, baseline);
  ASSERT_EQ(data.differences.size(), 2u);
  EXPECT_EQ(data.differences[0].field, "training.max_length");
  EXPECT_EQ(data.differences[0].values[0], "not set");
  EXPECT_EQ(data.differences[0].values[1], "256");
  EXPECT_EQ(data.differences[1].field, "environment.device_model");
  EXPECT_THAT(ReportHtml(data), HasSubstr("differ in more than the kernels"));
  EXPECT_THAT(ReportTable(data, 0), HasSubstr("differs: training.max_length: not set | 256"));
  EXPECT_NEAR(SpeedRatio(data, 0, 0, 1)->ratio, 2, 1e-9);
}

TEST(CompareTest, AFileThatWasAnotherOneIsADifference) {
  JobRun liger = RunOf("a", kLiger, 0.5, 6, 0);
  JobRun baseline = RunOf("b", kBaseline, 1, 6, 0);
  (*liger.mutable_environment()->mutable_versions())["dataset file"] = "sha256:1";
  (*baseline.mutable_environment()->mutable_versions())["dataset file"] = "sha256:2";
  EXPECT_THAT(ReportTable(FromJobs(liger, baseline), 0),
              HasSubstr("differs: environment.versions.dataset file: sha256:1 | sha256:2"));
}

TEST(CompareTest, AnExperimentSaysWhatItsSettingsDoNotShare) {
  Answers answers = Grid({"8", "16"}, 2, 6);
  const auto versions = [&](int job) {
    return answers.runs[answers.experiment.jobs(job).job_uid()]
        .mutable_environment()
        ->mutable_versions();
  };
  EXPECT_TRUE(answers.Data().differences.empty());
  // Another file at another point, as with an axis of data sets.
  for (const int job : {0, 1, 4, 5}) (*versions(job))["dataset file"] = "sha256:1";
  for (const int job : {2, 3, 6, 7}) (*versions(job))["dataset file"] = "sha256:2";
  EXPECT_TRUE(answers.Data().differences.empty());
  (*versions(5))["dataset file"] = "sha256:3";
  EXPECT_THAT(ReportTable(answers.Data(), 0),
              HasSubstr("differs: environment.versions.dataset file: sha256:1 | "
                        "sha256:1, sha256:3"));
  EXPECT_THAT(ReportHtml(answers.Data()), HasSubstr("differ in more than the kernels"));
}

// Pages for the browser's check (tests/e2e/report_browser_check.py).
TEST(ReportPagesTest, WritesPagesOfAllKinds) {
  const std::string root = LIGER_REPORT_DIR;
  std::filesystem::remove_all(root);
  Answers oom = Grid({"8", "16", "24", "32", "40", "48", "56", "64"}, 3, 10);
  for (const int point : {4, 5}) RunOutOfMemory(&oom, point, kBaseline);
  for (const int point : {6, 7}) {
    RunOutOfMemory(&oom, point, kBaseline);
    RunOutOfMemory(&oom, point, kLiger);
  }
  WriteReport(oom.Data(), root + "/out-of-memory");
  WriteReport(Grid({"1", "2"}, 2, 4).Data(), root + "/small");
  WriteReport(Grid({"8"}, 1, 1).Data(), root + "/one-step");
  std::vector<std::string> many;
  for (int i = 0; i < 20; ++i) many.push_back(std::to_string(100000 + i));
  WriteReport(Grid(many, 1, 12).Data(), root + "/many-points");
  WriteReport(Grid({"a-very-long-value-of-an-axis-that-nobody-would-want-to-read-in-a-plot",
                    "another-very-long-value-of-an-axis-that-is-longer-still-than-the-first"},
                   2, 5)
                  .Data(),
              root + "/long-names");
  WriteReport(Grid({"8"}, 1, 0).Data(), root + "/no-metrics");
  JobRun other = RunOf("demo-sft-baseline", kBaseline, 1, 6, 0);
  other.mutable_job()->mutable_resolved_spec()->mutable_training()->set_max_length(256);
  WriteReport(FromJobs(RunOf("demo-sft-liger", kLiger, 0.5, 6, 0), other), root + "/compare");
  EXPECT_TRUE(std::filesystem::exists(root + "/compare/report.html"));
}

}  // namespace
}  // namespace liger::client
