// Attempts that go on from the checkpoint of the one before, with real processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/checkpoints.h"
#include "common/file.h"
#include "tests/e2e/expectations.h"

namespace liger::e2e {
namespace {

using v1::Job;
using v1::JobStatus;
namespace fs = std::filesystem;

constexpr int64_t kSaveSteps = 200;

v1::JobSpec Saving(const Cluster& cluster, const std::string& name) {
  v1::JobSpec spec = cluster.TinyJob(name, kLongRun);
  spec.mutable_training()->set_save_steps(kSaveSteps);
  spec.mutable_training()->set_deterministic(true);  // results are compared to the last bit
  return spec;
}

int64_t NewestCheckpoint(Cluster& cluster, const std::string& name) {
  int64_t step = 0;
  for (const v1::Artifact& artifact : cluster.client().Artifacts(name)) {
    if (artifact.kind() == "checkpoint") step = std::max(step, artifact.step());
  }
  return step;
}

int64_t WaitForCheckpoint(Cluster& cluster, const std::string& name, int64_t step) {
  const absl::Time deadline = absl::Now() + absl::Minutes(2);
  while (NewestCheckpoint(cluster, name) < step && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  return NewestCheckpoint(cluster, name);
}

// The second attempt began after a checkpoint of at least `step`, and what came
// out is what an undisturbed job gives, to the last bit.
void ExpectWentOn(Cluster& cluster, const Job& job, int64_t step) {
  ExpectSucceeded(cluster, job, kLongRun);
  EXPECT_EQ(job.status().epoch(), 2);
  for (const auto& warning : job.status().warnings()) {
    EXPECT_NE(warning.code(), "NotResumed") << warning.message();
  }
  ExpectGaplessEvents(cluster, job.name());
  const auto points = cluster.client().Metrics(job.name(), job.status().epoch());
  ASSERT_FALSE(points.empty());
  EXPECT_GT(points.front().step(), step) << "of the last attempt";
  EXPECT_EQ(points.front().step() % kSaveSteps, 1);

  const std::string whole = cluster.client().Create(Saving(cluster, "whole")).name();
  ExpectSucceeded(cluster, cluster.client().WaitForEnd(whole), kLongRun);
  const std::string file = "/model.safetensors";
  EXPECT_EQ(*Sha256File(cluster.output(job.name()) + file),
            *Sha256File(cluster.output(whole) + file));

  std::vector<std::string> kept;
  for (const auto& entry : fs::directory_iterator(cluster.output(job.name()) + ".checkpoints")) {
    kept.push_back(entry.path().filename());
  }
  EXPECT_THAT(kept, testing::IsSupersetOf({"checkpoint-2200", "checkpoint-2400"}));
}

// Soon none is left on the disk that the job does not list.
void ExpectOnlyListedCheckpoints(Cluster& cluster, const std::string& name) {
  std::vector<std::string> listed, there;
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  do {
    listed.clear();
    there.clear();
    for (const v1::Artifact& artifact : cluster.client().Artifacts(name)) {
      if (artifact.kind() == "checkpoint") listed.push_back(artifact.uri());
    }
    for (const auto& entry : fs::directory_iterator(cluster.output(name) + ".checkpoints")) {
      there.push_back("file://" + entry.path().string());
    }
    std::sort(listed.begin(), listed.end());
    std::sort(there.begin(), there.end());
    absl::SleepFor(absl::Milliseconds(20));
  } while (there != listed && absl::Now() < deadline);
  EXPECT_THAT(there, testing::ElementsAreArray(listed));
}

TEST(ResumeE2eTest, TrainerKilled) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(Saving(cluster, "job")).name();
  const int64_t step = WaitForCheckpoint(cluster, name, 2 * kSaveSteps);
  const std::vector<pid_t> trainers = cluster.Trainers();
  ASSERT_EQ(trainers.size(), 1u);
  kill(trainers[0], SIGKILL);
  ExpectWentOn(cluster, cluster.client().WaitForEnd(name), step);
  ExpectEveryStepOnce(cluster, name, kLongRun);  // of both attempts
  cluster.ExpectIdle();
}

// A byte of the newest one is another one when the job is to go on from it.
TEST(ResumeE2eTest, ADamagedCheckpointIsQuarantinedAndTheOneBeforeTaken) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(Saving(cluster, "job")).name();
  const int64_t step = WaitForCheckpoint(cluster, name, 2 * kSaveSteps);
  const std::vector<pid_t> trainers = cluster.Trainers();
  ASSERT_EQ(trainers.size(), 1u);
  kill(trainers[0], SIGSTOP);
  const int64_t newest = NewestCheckpoint(cluster, name);
  const fs::path folder =
      cluster.output(name) + ".checkpoints/" + CheckpointName(newest);
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (!fs::exists(folder) && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
  std::string optimizer = ReadFile(folder / "optimizer.safetensors").value();
  optimizer[optimizer.size() / 2] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(folder / "optimizer.safetensors", optimizer).ok());
  kill(trainers[0], SIGKILL);

  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kLongRun);
  EXPECT_EQ(job.status().epoch(), 2);
  const auto points = cluster.client().Metrics(name, job.status().epoch());
  ASSERT_FALSE(points.empty());
  EXPECT_EQ(points.front().step(), newest - kSaveSteps + 1) << "of the last attempt, " << step;
  int quarantined = 0;
  for (const v1::Artifact& artifact : cluster.client().Artifacts(name)) {
    if (artifact.state() != v1::Artifact::QUARANTINED) continue;
    ++quarantined;
    EXPECT_EQ(artifact.step(), newest);
    EXPECT_EQ(artifact.uri(), "file://" + folder.string() + ".damaged");
    EXPECT_TRUE(fs::exists(folder.string() + ".damaged"));
    EXPECT_THAT(artifact.reason(), testing::HasSubstr("optimizer.safetensors"));
  }
  EXPECT_EQ(quarantined, 1);
  ASSERT_FALSE(job.status().warnings().empty());
  EXPECT_EQ(job.status().warnings(0).code(), kNotResumedCode);
  cluster.ExpectIdle();
}

// Workers of one output root read each other's checkpoints.
TEST(ResumeE2eTest, AgentKilledAndAnotherWorkerGoesOn) {
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(Saving(cluster, "job")).name();
  const int64_t step = WaitForCheckpoint(cluster, name, kSaveSteps);
  // Its folder appears after it is listed, and is all that the other worker can go on from.
  const std::string folder = cluster.output(name) + ".checkpoints/" + CheckpointName(kSaveSteps);
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (!fs::exists(folder) && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
  const std::string first = cluster.client().Get(name).status().attempts(0).worker_id();
  const int index = cluster.WorkerIndex(first);
  ASSERT_GE(index, 0);
  cluster.worker(index).Kill();
  const Job job = cluster.client().WaitForEnd(name);
  EXPECT_NE(job.status().attempts(0).worker_id(), first);
  ExpectWentOn(cluster, job, step - kSaveSteps);  // the newest may not have appeared
  ExpectOnlyListedCheckpoints(cluster, name);     // also of those that the lost one saved
  cluster.StartWorker(index);
  cluster.client().WaitForReadyWorkers(2);
  cluster.ExpectIdle();
}

// A user goes on from a job that was cancelled, by the name of its output.
TEST(ResumeE2eTest, ANewJobGoesOnFromACancelledOne) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(Saving(cluster, "job")).name();
  WaitForCheckpoint(cluster, name, kSaveSteps);
  cluster.client().Cancel(name);
  ASSERT_EQ(cluster.client().WaitForEnd(name).status().state(), JobStatus::CANCELLED);
  v1::JobSpec next = Saving(cluster, "next");
  next.mutable_training()->set_resume_from_checkpoint("job");
  const Job job = cluster.client().WaitForEnd(cluster.client().Create(next).name());
  ExpectSucceeded(cluster, job, kLongRun);
  const auto points = cluster.client().Metrics("next");
  ASSERT_FALSE(points.empty());
  EXPECT_EQ(points.front().step() % kSaveSteps, 1);
  EXPECT_GT(points.front().step(), kSaveSteps);

  v1::JobSpec other = Saving(cluster, "other");
  other.mutable_training()->set_resume_from_checkpoint("job");
  other.mutable_training()->set_optim("lion");
  const Job refused = cluster.client().WaitForEnd(cluster.client().Create(other).name());
  ExpectFailed(refused, v1::FAILURE_CLASS_CONFIG);
  EXPECT_THAT(refused.status().failure().message(), testing::HasSubstr("training.optim"));
  cluster.ExpectIdle();
}

}  // namespace
}  // namespace liger::e2e
