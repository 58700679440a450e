// Every row of docs/protocol.md's table "What failures lead to", with real
// processes. Each test ends with nothing left: the Cluster checks that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "tests/e2e/cluster.h"
#include "tests/e2e/tiny_model.h"

namespace liger::e2e {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using v1::Job;
using v1::JobSpec;
using v1::JobStatus;

// Long enough to be in the middle of, short enough to wait for.
constexpr int64_t kLongRun = 400;

void ExpectSucceeded(Cluster& cluster, const Job& job, int64_t steps) {
  EXPECT_EQ(job.status().state(), JobStatus::SUCCEEDED) << job.status().DebugString();
  EXPECT_TRUE(fs::exists(cluster.output(job.name()) + "/model.safetensors"));
  EXPECT_TRUE(fs::exists(cluster.output(job.name()) + "/config.json"));
  EXPECT_EQ(job.status().progress().step(), steps);
}

// FAILED with a cause and an action, after one attempt or none.
void ExpectFailed(const Job& job, v1::FailureClass failure_class) {
  EXPECT_EQ(job.status().state(), JobStatus::FAILED) << job.status().DebugString();
  EXPECT_EQ(job.status().failure().class_(), failure_class) << job.status().DebugString();
  EXPECT_FALSE(job.status().failure().message().empty());
  EXPECT_FALSE(job.status().action().empty());
  EXPECT_LE(job.status().epoch(), 1);
  EXPECT_EQ(job.status().restarts(), 0);
}

// Each step once, none missing.
void ExpectEveryStepOnce(Cluster& cluster, const std::string& job, int64_t steps) {
  std::vector<v1::MetricPoint> points;
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  do {  // metrics reach the store in batches
    points = cluster.client().Metrics(job);
    absl::SleepFor(absl::Milliseconds(200));
  } while (static_cast<int64_t>(points.size()) < steps && absl::Now() < deadline);
  ASSERT_EQ(static_cast<int64_t>(points.size()), steps);
  for (int64_t i = 0; i < steps; ++i) EXPECT_EQ(points[i].step(), i + 1);
}

void ExpectGaplessEvents(Cluster& cluster, const std::string& job) {
  int64_t expected = 1;
  for (const v1::JobEvent& event : cluster.client().Events(job)) {
    EXPECT_EQ(event.seq(), expected++);
  }
}

TEST(FailureTableTest, NothingFails) {
  Cluster cluster({.workers = 2});
  std::vector<std::string> jobs;
  for (int i = 0; i < 5; ++i) {
    jobs.push_back(cluster.client().Create(cluster.TinyJob(absl::StrCat("job-", i), 10)).name());
  }
  std::set<std::string> workers;
  for (const std::string& name : jobs) {
    const Job job = cluster.client().WaitForEnd(name, absl::Minutes(3));
    ExpectSucceeded(cluster, job, 10);
    ExpectEveryStepOnce(cluster, name, 10);
    ExpectGaplessEvents(cluster, name);
    EXPECT_EQ(job.status().epoch(), 1);
    workers.insert(job.status().attempts(0).worker_id());
  }
  EXPECT_EQ(workers.size(), 2u) << "five jobs share two workers";
  cluster.ExpectIdle();
}

TEST(FailureTableTest, CancelInMidStep) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", 1000000)).name();
  cluster.client().WaitForStep(name, 2);
  const absl::Time cancelled = absl::Now();
  cluster.client().Cancel(name);
  const Job job = cluster.client().WaitForEnd(name);
  EXPECT_EQ(job.status().state(), JobStatus::CANCELLED);
  EXPECT_LE(absl::Now() - cancelled, absl::Seconds(10));
  EXPECT_FALSE(fs::exists(cluster.output(name)));
  cluster.ExpectIdle();
}

TEST(FailureTableTest, CancelOfAFrozenTrainer) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", 1000000)).name();
  cluster.client().WaitForStep(name, 2);
  for (pid_t pid : cluster.Trainers()) kill(pid, SIGSTOP);
  const absl::Time cancelled = absl::Now();
  cluster.client().Cancel(name);
  EXPECT_EQ(cluster.client().WaitForEnd(name).status().state(), JobStatus::CANCELLED);
  EXPECT_LE(absl::Now() - cancelled, absl::Seconds(10));
  cluster.ExpectIdle();
}

TEST(FailureTableTest, TrainerKilled) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kLongRun)).name();
  cluster.client().WaitForStep(name, 2);
  const std::vector<pid_t> trainers = cluster.Trainers();
  ASSERT_EQ(trainers.size(), 1u);
  kill(trainers[0], SIGKILL);
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kLongRun);
  EXPECT_EQ(job.status().epoch(), 2);
  EXPECT_EQ(job.status().restarts(), 1);
  ASSERT_EQ(job.status().attempts_size(), 2);
  EXPECT_THAT(job.status().attempts(1).detail(), HasSubstr("signal 9"));
  ExpectGaplessEvents(cluster, name);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, AgentKilled) {
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kLongRun)).name();
  const Job running = cluster.client().WaitForStep(name, 2);
  const std::string first = running.status().attempts(0).worker_id();
  const int index = cluster.WorkerIndex(first);
  ASSERT_GE(index, 0);
  ASSERT_EQ(cluster.Trainers().size(), 1u);
  const std::vector<pid_t> orphans = cluster.Trainers();
  cluster.worker(index).Kill();
  const absl::Time killed = absl::Now();
  while (fs::exists(absl::StrCat("/proc/", orphans[0])) && !CommandLine(orphans[0]).empty() &&
         absl::Now() - killed < absl::Seconds(6)) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_LE(absl::Now() - killed, absl::Seconds(5));

  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kLongRun);
  EXPECT_EQ(job.status().epoch(), 2);
  EXPECT_NE(job.status().attempts(0).worker_id(), first);
  // The dead worker's slot is occupied until it reports; then all is free.
  cluster.StartWorker(index);
  cluster.client().WaitForReadyWorkers(2);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, AgentRestarted) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kLongRun)).name();
  cluster.client().WaitForStep(name, 2);
  cluster.worker(0).Kill();
  cluster.StartWorker(0);
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kLongRun);
  EXPECT_EQ(job.status().epoch(), 2);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, CoordinatorKilledAndDownForLongerThanTheLease) {
  Cluster cluster({.workers = 2});
  const int64_t steps = 4 * kLongRun;
  const std::string name = cluster.client().Create(cluster.TinyJob("job", steps)).name();
  cluster.client().WaitForStep(name, 2);
  const std::vector<pid_t> trainers = cluster.Trainers();
  cluster.coordinator().Kill();
  // Twice the 5 s after which a silent worker's job would be started elsewhere.
  absl::SleepFor(absl::Seconds(10));
  cluster.StartCoordinator();
  const Job job = cluster.client().WaitForEnd(name, absl::Minutes(3));
  ExpectSucceeded(cluster, job, steps);
  EXPECT_EQ(job.status().epoch(), 1) << "the same attempt";
  EXPECT_EQ(job.status().restarts(), 0);
  ExpectEveryStepOnce(cluster, name, steps);
  ExpectGaplessEvents(cluster, name);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, CoordinatorKilledOverTheEndOfTheJob) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", 60)).name();
  cluster.client().WaitForStep(name, 1);
  cluster.coordinator().Kill();
  EXPECT_TRUE(cluster.WaitForNoTrainers(absl::Minutes(1))) << "it ends without a coordinator";
  EXPECT_FALSE(fs::exists(cluster.output(name))) << "but publishes nothing";
  cluster.StartCoordinator();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, 60);
  EXPECT_EQ(job.status().epoch(), 1);
  ExpectEveryStepOnce(cluster, name, 60);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, WorkerFrozenForLongerThanItsLease) {
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", 2 * kLongRun)).name();
  const Job running = cluster.client().WaitForStep(name, 2);
  const int index = cluster.WorkerIndex(running.status().attempts(0).worker_id());
  ASSERT_GE(index, 0);
  cluster.worker(index).Signal(SIGSTOP);
  cluster.client().WaitUntil(
      name, [](const Job& job) { return job.status().epoch() == 2; }, absl::Minutes(1),
      "in attempt 2");
  cluster.worker(index).Signal(SIGCONT);
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, 2 * kLongRun);
  EXPECT_EQ(job.status().epoch(), 2) << "the old attempt publishes nothing";
  cluster.ExpectIdle();
}

TEST(FailureTableTest, BadData) {
  Cluster cluster({});
  WriteTinyDataset(cluster.datasets() + "/bad.jsonl", 40, /*bad_row=*/17);
  JobSpec spec = cluster.TinyJob("job", 10);
  spec.mutable_dataset()->set_uri("bad.jsonl");
  const std::string name = cluster.client().Create(spec).name();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectFailed(job, v1::FAILURE_CLASS_DATA);
  EXPECT_THAT(job.status().failure().message(), HasSubstr("17"));
  cluster.ExpectIdle();
}

TEST(FailureTableTest, Nan) {
  Cluster cluster({});
  JobSpec spec = cluster.TinyJob("job", 50);
  spec.mutable_training()->set_learning_rate(1e30);
  spec.mutable_training()->set_max_grad_norm(0);
  const std::string name = cluster.client().Create(spec).name();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectFailed(job, v1::FAILURE_CLASS_NAN);
  EXPECT_GT(job.status().failure().step(), 0);
  EXPECT_FALSE(fs::exists(cluster.output(name)));
  cluster.ExpectIdle();
}

TEST(FailureTableTest, OutOfMemory) {
  Cluster cluster({});
  // 2 layers x 16 x hidden^2 weights in fp32: some 4 TB, more than any host here.
  WriteTinyModel(cluster.models() + "/huge", 1 << 18);
  JobSpec spec = cluster.TinyJob("job", 10);
  spec.mutable_model()->set_uri("huge");
  const std::string name = cluster.client().Create(spec).name();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectFailed(job, v1::FAILURE_CLASS_OOM_HOST);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, BadConfig) {
  Cluster cluster({});
  WriteTinyModel(cluster.models() + "/odd");
  std::string config = ReadFile(cluster.models() + "/odd/config.json").value();
  config.replace(config.find("silu"), 4, "sine");
  ASSERT_TRUE(WriteFileAtomically(cluster.models() + "/odd/config.json", config).ok());
  JobSpec spec = cluster.TinyJob("job", 10);
  spec.mutable_model()->set_uri("odd");
  const std::string name = cluster.client().Create(spec).name();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectFailed(job, v1::FAILURE_CLASS_CONFIG);
  EXPECT_THAT(job.status().failure().message(), HasSubstr("sine"));
  cluster.ExpectIdle();
}

TEST(FailureTableTest, OutputThatExistsAlready) {
  Cluster cluster({});
  ASSERT_TRUE(MakeFolders(cluster.output("job") + "/mine").ok());
  const std::string name = cluster.client().Create(cluster.TinyJob("job", 10)).name();
  ExpectFailed(cluster.client().WaitForEnd(name), v1::FAILURE_CLASS_CONFIG);
  EXPECT_TRUE(fs::exists(cluster.output("job") + "/mine"));
  cluster.ExpectIdle();
}

TEST(FailureTableTest, SlowCommitsDelayNoHeartbeat) {
  Cluster cluster({.workers = 2, .coordinator_flags = {"--test-commit-delay-ms", "200"}});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kLongRun)).name();
  ExpectSucceeded(cluster, cluster.client().WaitForEnd(name), kLongRun);
  for (const v1::Worker& worker : cluster.client().Workers()) EXPECT_EQ(worker.state(), "READY");
  cluster.ExpectIdle();
}

}  // namespace
}  // namespace liger::e2e
