#include "tests/e2e/gang_jobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "tests/e2e/expectations.h"

namespace liger::e2e {

v1::JobSpec Steps(const Cluster& cluster, const std::string& name, int ranks, int64_t steps) {
  v1::JobSpec spec = cluster.TinyJob(name, steps);
  spec.mutable_training()->set_per_device_train_batch_size(2 / ranks);
  spec.mutable_training()->set_deterministic(true);
  spec.mutable_resources()->set_count(ranks);
  if (ranks > 1) spec.mutable_parallel()->set_strategy(v1::PARALLEL_STRATEGY_DDP);
  return spec;
}

v1::JobSpec Gang(const Cluster& cluster, const std::string& name, v1::ParallelStrategy strategy) {
  v1::JobSpec spec = Steps(cluster, name, 2, kSteps);
  spec.mutable_parallel()->set_strategy(strategy);
  spec.mutable_training()->set_save_steps(kSaveSteps);
  return spec;
}

std::string ModelDigest(const Cluster& cluster, const std::string& name) {
  return Sha256File(cluster.output(name) + "/model.safetensors").value_or(name + " has no model");
}

const Reference& Undisturbed(v1::ParallelStrategy strategy) {
  static std::map<v1::ParallelStrategy, Reference> references;
  Reference& reference = references[strategy];
  if (!reference.points.empty()) return reference;
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(Gang(cluster, "gang", strategy)).name();
  ExpectSucceeded(cluster, cluster.client().WaitForEnd(name), kSteps);
  ExpectEveryStepOnce(cluster, name, kSteps);
  cluster.ExpectIdle();
  return reference = {ModelDigest(cluster, name), cluster.client().Metrics(name)};
}

void ExpectSameLoss(const v1::MetricPoint& actual, const v1::MetricPoint& expected) {
  ASSERT_EQ(actual.step(), expected.step());
  for (const char* name : {"loss", "grad_norm"}) {
    const double value = expected.values().at(name);
    EXPECT_NEAR(actual.values().at(name), value, 1e-5 * std::max(1.0, std::abs(value)))
        << name << " of step " << actual.step();
  }
}

int64_t NewestCheckpoint(Cluster& cluster, const std::string& name) {
  int64_t step = 0;
  for (const v1::Artifact& artifact : cluster.client().Artifacts(name)) {
    if (artifact.kind() == "checkpoint") step = std::max(step, artifact.step());
  }
  return step;
}

void WaitForCheckpoint(Cluster& cluster, const std::string& name, int64_t step) {
  const absl::Time deadline = absl::Now() + absl::Minutes(2);
  while (NewestCheckpoint(cluster, name) < step && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  ASSERT_GE(NewestCheckpoint(cluster, name), step);
}

pid_t TrainerOfRank(const Cluster& cluster, int rank) {
  const std::vector<pid_t> of_rank = ProcessesWith(absl::StrCat("RANK=", rank));
  for (const pid_t pid : cluster.Trainers()) {
    if (std::find(of_rank.begin(), of_rank.end(), pid) != of_rank.end()) return pid;
  }
  return 0;
}

void ExpectUndisturbed(Cluster& cluster, const v1::Job& job) {
  ExpectSucceeded(cluster, job, kSteps);
  for (const auto& warning : job.status().warnings()) {
    EXPECT_NE(warning.code(), "NotResumed") << warning.message();
  }
  EXPECT_EQ(ModelDigest(cluster, job.name()),
            Undisturbed(job.resolved_spec().parallel().strategy()).model_digest);
  ExpectGaplessEvents(cluster, job.name());
}

}  // namespace liger::e2e
