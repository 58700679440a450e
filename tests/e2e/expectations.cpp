#include "tests/e2e/expectations.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/paths.h"

namespace liger::e2e {

namespace fs = std::filesystem;
using v1::Job;
using v1::JobStatus;

CliResult RunCli(const Cluster& cluster, const std::string& words) {
  const std::string command =
      absl::StrCat(BinDir(), "/liger-cli --address ", cluster.api_address(), " ", words, " 2>&1");
  CliResult result;
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> piece;
  while (const size_t n = fread(piece.data(), 1, piece.size(), pipe)) {
    result.out.append(piece.data(), n);
  }
  result.code = WEXITSTATUS(pclose(pipe));
  return result;
}

pid_t CatchInMidRun(Cluster& cluster, const std::string& name) {
  cluster.client().WaitForStep(name, 2);
  const std::vector<pid_t> trainers = cluster.Trainers();
  const Job job = cluster.client().Get(name);
  EXPECT_EQ(job.status().state(), JobStatus::RUNNING) << job.status().DebugString();
  EXPECT_EQ(trainers.size(), 1u);
  return trainers.size() == 1 ? trainers[0] : 0;
}

void ExpectSucceeded(Cluster& cluster, const Job& job, int64_t steps) {
  EXPECT_EQ(job.status().state(), JobStatus::SUCCEEDED) << job.status().DebugString();
  EXPECT_TRUE(fs::exists(cluster.output(job.name()) + "/model.safetensors"));
  EXPECT_TRUE(fs::exists(cluster.output(job.name()) + "/config.json"));
  EXPECT_EQ(job.status().progress().step(), steps);
  // What succeeded is not kept among the failed.
  const std::string attempt = absl::StrCat(job.uid(), ".", job.status().epoch(), ".");
  for (const std::string& failed : cluster.FailedFolders()) {
    EXPECT_FALSE(absl::StrContains(failed, attempt)) << failed;
  }
}

void ExpectFailed(const Job& job, v1::FailureClass failure_class) {
  EXPECT_EQ(job.status().state(), JobStatus::FAILED) << job.status().DebugString();
  EXPECT_EQ(job.status().failure().class_(), failure_class) << job.status().DebugString();
  EXPECT_FALSE(job.status().failure().message().empty());
  EXPECT_FALSE(job.status().action().empty());
  EXPECT_LE(job.status().epoch(), 1);
  EXPECT_EQ(job.status().restarts(), 0);
}

void ExpectEveryStepOnce(Cluster& cluster, const std::string& job, int64_t steps) {
  std::vector<v1::MetricPoint> points;
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  do {  // metrics reach the store in batches
    points = cluster.client().Metrics(job);
    absl::SleepFor(absl::Milliseconds(200));
  } while (static_cast<int64_t>(points.size()) < steps && absl::Now() < deadline);
  ASSERT_EQ(static_cast<int64_t>(points.size()), steps);
  for (int64_t i = 0; i < steps; ++i) ASSERT_EQ(points[i].step(), i + 1);
}

std::vector<v1::MetricPoint> WaitForPoints(Cluster& cluster, const std::string& job,
                                           int64_t steps) {
  const int64_t epoch = cluster.client().Get(job).status().epoch();
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (true) {
    std::vector<v1::MetricPoint> points = cluster.client().Metrics(job, epoch);
    if (!points.empty() && points.back().step() == steps) return points;
    if (absl::Now() > deadline) {
      ADD_FAILURE() << "step " << steps << " of " << job << " has not come";
      return {};
    }
    absl::SleepFor(absl::Milliseconds(200));
  }
}

void ExpectAdoptionAfterOutage(const ClusterOptions& options, absl::Duration outage) {
  Cluster cluster(options);
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kEndlessRun)).name();
  const pid_t trainer = CatchInMidRun(cluster, name);
  cluster.coordinator().Kill();
  absl::SleepFor(outage);
  EXPECT_EQ(cluster.Trainers(), std::vector<pid_t>{trainer}) << "training goes on alone";
  cluster.StartCoordinator();
  const int64_t before = cluster.client().Get(name).status().progress().step();
  cluster.client().WaitForStep(name, before + 1);
  EXPECT_EQ(cluster.Trainers(), std::vector<pid_t>{trainer}) << "adopted, not started anew";

  cluster.client().Cancel(name);
  const Job job = cluster.client().WaitForEnd(name);
  EXPECT_EQ(job.status().state(), JobStatus::CANCELLED) << job.status().DebugString();
  EXPECT_EQ(job.status().epoch(), 1) << "the same attempt";
  EXPECT_EQ(job.status().restarts(), 0);
  EXPECT_GT(job.status().progress().step(), before);
  ExpectEveryStepOnce(cluster, name, job.status().progress().step());
  ExpectGaplessEvents(cluster, name);
  cluster.ExpectIdle();
}

void ExpectGaplessEvents(Cluster& cluster, const std::string& job) {
  const std::vector<v1::JobEvent> events = cluster.client().Events(job);
  ASSERT_FALSE(events.empty());
  int64_t expected = 1;
  for (const v1::JobEvent& event : events) EXPECT_EQ(event.seq(), expected++);
  EXPECT_EQ(events.front().type(), "Created");
  EXPECT_TRUE(IsTerminal(events.back().to_state())) << events.back().DebugString();
}

}  // namespace liger::e2e
