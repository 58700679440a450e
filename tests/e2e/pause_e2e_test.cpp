// Jobs that leave their devices and go on later, with real processes: the result is that of an
// undisturbed run, to the last bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <filesystem>
#include <map>

#include "common/file.h"
#include "tests/e2e/expectations.h"

namespace liger::e2e {
namespace {

using testing::HasSubstr;
using v1::Job;
using v1::JobStatus;
namespace fs = std::filesystem;

// A fast machine was caught at the fifth.
constexpr int64_t kSteps = 300;

// Saves no checkpoint by itself.
v1::JobSpec Exact(const Cluster& cluster, const std::string& name, int ranks = 1) {
  v1::JobSpec spec = cluster.TinyJob(name, kSteps);
  spec.mutable_training()->set_deterministic(true);
  spec.mutable_resources()->set_count(ranks);
  if (ranks > 1) spec.mutable_parallel()->set_strategy(v1::PARALLEL_STRATEGY_DDP);
  return spec;
}

std::string ModelDigest(const Cluster& cluster, const std::string& name) {
  return Sha256File(cluster.output(name) + "/model.safetensors").value_or(name + " has no model");
}

// The model of a run that nobody disturbs, which is made once.
const std::string& Undisturbed(int ranks) {
  static std::map<int, std::string> digests;
  std::string& digest = digests[ranks];
  if (!digest.empty()) return digest;
  Cluster cluster({.cpu_slots = ranks});
  const std::string name = cluster.client().Create(Exact(cluster, "whole", ranks)).name();
  ExpectSucceeded(cluster, cluster.client().WaitForEnd(name), kSteps);
  cluster.ExpectIdle();
  return digest = ModelDigest(cluster, name);
}

void ExpectUndisturbed(Cluster& cluster, const Job& job, int ranks) {
  ExpectSucceeded(cluster, job, kSteps);
  EXPECT_EQ(job.status().epoch(), 2);
  EXPECT_EQ(job.status().restarts(), 0);
  for (const auto& warning : job.status().warnings()) {
    EXPECT_NE(warning.code(), "NotResumed") << warning.message();
  }
  ExpectGaplessEvents(cluster, job.name());
  EXPECT_EQ(ModelDigest(cluster, job.name()), Undisturbed(ranks));
}

void PauseAndResume(int ranks) {
  Cluster cluster({.cpu_slots = ranks});
  const std::string name = cluster.client().Create(Exact(cluster, "job", ranks)).name();
  cluster.WaitForLoggedSteps(2);
  EXPECT_EQ(cluster.client().Pause(name).status().state(), JobStatus::PAUSING);
  const Job paused = cluster.client().WaitForState(name, JobStatus::PAUSED);
  EXPECT_TRUE(cluster.Trainers().empty());
  for (const v1::Worker& worker : cluster.client().Workers()) {
    for (const v1::Device& device : worker.devices()) EXPECT_EQ(device.job_name(), "");
  }
  const auto artifacts = cluster.client().Artifacts(name);
  ASSERT_EQ(artifacts.size(), 1u);
  EXPECT_EQ(artifacts[0].kind(), "checkpoint");
  EXPECT_LT(artifacts[0].step(), kSteps) << "caught too late to say anything";
  EXPECT_TRUE(fs::exists(fs::path(artifacts[0].uri().substr(7)) / "optimizer.safetensors"));
  EXPECT_THAT(paused.status().message(), HasSubstr("goes on from "));
  EXPECT_FALSE(fs::exists(cluster.output(name)));
  EXPECT_EQ(cluster.client().Resume(name).status().state(), JobStatus::QUEUED);
  const Job job = cluster.client().WaitForEnd(name);
  EXPECT_EQ(job.status().attempts(1).state(), "PAUSED");
  ExpectUndisturbed(cluster, job, ranks);
  const auto points = WaitForPoints(cluster, name, kSteps);
  ASSERT_FALSE(points.empty());
  EXPECT_EQ(points.front().step(), artifacts[0].step() + 1) << "no step is done again";
  cluster.ExpectIdle();
}

TEST(PauseE2eTest, OneRankGoesOn) { PauseAndResume(1); }

TEST(PauseE2eTest, TwoRanksGoOn) { PauseAndResume(2); }

// SIGTERM to the agent: its task saves, and goes on elsewhere.
TEST(PauseE2eTest, AWorkerThatStopsSavesFirst) {
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(Exact(cluster, "job")).name();
  cluster.WaitForLoggedSteps(2);
  const std::string first = cluster.client().Get(name).status().attempts(0).worker_id();
  const int index = cluster.WorkerIndex(first);
  ASSERT_GE(index, 0);
  const int status = cluster.worker(index).Terminate();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  const Job job = cluster.client().WaitForEnd(name);
  EXPECT_NE(job.status().attempts(0).worker_id(), first);
  const auto points = WaitForPoints(cluster, name, kSteps);
  ASSERT_FALSE(points.empty());
  EXPECT_GT(points.front().step(), 2) << "from the checkpoint that was saved at the end";
  ExpectUndisturbed(cluster, job, 1);
  cluster.StartWorker(index);
  cluster.client().WaitForReadyWorkers(2);
  cluster.ExpectIdle();
}

}  // namespace
}  // namespace liger::e2e
