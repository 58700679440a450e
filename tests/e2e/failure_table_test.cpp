// Every row of docs/protocol.md's table "What failures lead to", with real
// processes. Each test ends with nothing left: the Cluster checks that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "tests/e2e/cluster.h"
#include "tests/e2e/expectations.h"
#include "tests/e2e/heartbeat_probe.h"
#include "tests/e2e/tiny_model.h"

namespace liger::e2e {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using v1::Job;
using v1::JobSpec;
using v1::JobStatus;

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
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kEndlessRun)).name();
  CatchInMidRun(cluster, name);
  const absl::Time cancelled = absl::Now();
  cluster.client().Cancel(name);
  const Job job = cluster.client().WaitForEnd(name);
  EXPECT_EQ(job.status().state(), JobStatus::CANCELLED);
  EXPECT_LE(absl::Now() - cancelled, absl::Seconds(10));
  EXPECT_FALSE(fs::exists(cluster.output(name)));
  ExpectGaplessEvents(cluster, name);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, CancelOfAFrozenTrainer) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kEndlessRun)).name();
  const pid_t trainer = CatchInMidRun(cluster, name);
  ASSERT_GT(trainer, 0);
  kill(trainer, SIGSTOP);
  const absl::Time cancelled = absl::Now();
  cluster.client().Cancel(name);
  EXPECT_EQ(cluster.client().WaitForEnd(name).status().state(), JobStatus::CANCELLED);
  EXPECT_LE(absl::Now() - cancelled, absl::Seconds(10));
  cluster.ExpectIdle();
}

TEST(FailureTableTest, TrainerKilled) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kLongRun)).name();
  const pid_t trainer = CatchInMidRun(cluster, name);
  ASSERT_GT(trainer, 0);
  kill(trainer, SIGKILL);
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kLongRun);
  EXPECT_EQ(job.status().epoch(), 2);
  EXPECT_EQ(job.status().restarts(), 1);
  ASSERT_EQ(job.status().attempts_size(), 2);
  EXPECT_THAT(job.status().attempts(1).detail(), HasSubstr("signal 9"));
  ExpectGaplessEvents(cluster, name);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, WorkerStoppedInOrder) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kLongRun)).name();
  constexpr int kStops = 3;  // more than max_restarts
  for (int stop = 1; stop <= kStops; ++stop) {
    cluster.client().WaitUntil(
        name, [&](const Job& job) { return job.status().attempts_size() >= stop; },
        absl::Minutes(1), "attempt");
    // Steps of this attempt, which goes on from where the last one was.
    const auto before = cluster.client().Get(name).status().progress().step();
    cluster.client().WaitForState(name, JobStatus::RUNNING);
    cluster.client().WaitForStep(name, before + 2);
    CatchInMidRun(cluster, name);
    const int status = cluster.worker(0).Terminate();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cluster.client().WaitForState(name, JobStatus::RECOVERING);
    cluster.StartWorker(0);
  }
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kLongRun);
  EXPECT_EQ(job.status().restarts(), 0);
  EXPECT_EQ(job.status().attempts_size(), kStops + 1) << "none is tried on a worker that drains";
  EXPECT_THAT(job.status().attempts(kStops).detail(), HasSubstr("was shut down"));
  ExpectGaplessEvents(cluster, name);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, AgentKilled) {
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kLongRun)).name();
  const pid_t orphan = CatchInMidRun(cluster, name);
  ASSERT_GT(orphan, 0);
  const std::string first = cluster.client().Get(name).status().attempts(0).worker_id();
  const int index = cluster.WorkerIndex(first);
  ASSERT_GE(index, 0);
  cluster.worker(index).Kill();
  const absl::Time killed = absl::Now();
  while (fs::exists(absl::StrCat("/proc/", orphan)) && !CommandLine(orphan).empty() &&
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
  CatchInMidRun(cluster, name);
  cluster.worker(0).Kill();
  cluster.StartWorker(0);
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kLongRun);
  EXPECT_EQ(job.status().epoch(), 2);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, CoordinatorKilledAndDownForLongerThanTheLease) {
  // Twice the 5 s after which a silent worker's job would be started elsewhere.
  ExpectAdoptionAfterOutage(ClusterOptions{.workers = 2}, absl::Seconds(10));
}

TEST(FailureTableTest, CoordinatorKilledOverTheEndOfTheJob) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kLongRun)).name();
  CatchInMidRun(cluster, name);
  cluster.coordinator().Kill();
  EXPECT_TRUE(cluster.WaitForNoTrainers(absl::Minutes(1))) << "it ends without a coordinator";
  EXPECT_FALSE(fs::exists(cluster.output(name))) << "but publishes nothing";
  cluster.StartCoordinator();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kLongRun);
  EXPECT_EQ(job.status().epoch(), 1);
  ExpectEveryStepOnce(cluster, name, kLongRun);
  ExpectGaplessEvents(cluster, name);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, WorkerFrozenForLongerThanItsLease) {
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kLongRun)).name();
  ASSERT_GT(CatchInMidRun(cluster, name), 0);
  const Job running = cluster.client().Get(name);
  const int index = cluster.WorkerIndex(running.status().attempts(0).worker_id());
  ASSERT_GE(index, 0);
  cluster.worker(index).Signal(SIGSTOP);
  cluster.client().WaitUntil(
      name, [](const Job& job) { return job.status().epoch() == 2; }, absl::Minutes(1),
      "in attempt 2");
  cluster.worker(index).Signal(SIGCONT);
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kLongRun);
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

TEST(FailureTableTest, BadDataInAnotherEncoding) {
  Cluster cluster({});
  WriteTinyDataset(cluster.datasets() + "/latin1.jsonl", 40, /*bad_row=*/17,
                   "{\"prompt\": \"caf\xE9\", \"completion\": \" au lait\"}");
  JobSpec spec = cluster.TinyJob("job", 10);
  spec.mutable_dataset()->set_uri("latin1.jsonl");
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

// The worker's GPU is a stand-in for a driver's; nothing is ever run on it.
TEST(FailureTableTest, AStrategyThatFitsOnNoGpu) {
  Cluster cluster({.worker_environment = {{"LD_LIBRARY_PATH", LIGER_FAKE_NVML}}});
  ASSERT_TRUE(
      WriteFileAtomically(cluster.datasets() + "/ids.jsonl", R"({"input_ids": [1, 2, 3]})").ok());
  JobSpec spec = cluster.TinyJob("job", 10);
  spec.mutable_model()->clear_uri();
  spec.mutable_model()->set_name("llama3-8b");
  spec.mutable_dataset()->set_uri("ids.jsonl");
  spec.mutable_resources()->set_device_kind(v1::DEVICE_KIND_CUDA);
  const auto needs = testing::AllOf(HasSubstr("on 1 GPU the job holds at least 144.54 GB"),
                                    HasSubstr("the largest there has 8.59 GB (Fake GPU, worker "));
  const grpc::Status dry_run = cluster.client().TryValidate(spec);
  EXPECT_EQ(dry_run.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(dry_run.error_message(), testing::AllOf(HasSubstr("parallel.strategy: "), needs));
  const std::string name = cluster.client().Create(spec).name();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectFailed(job, v1::FAILURE_CLASS_CONFIG);
  EXPECT_THAT(job.status().failure().message(), needs);
  EXPECT_EQ(job.status().attempts_size(), 0);
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

TEST(FailureTableTest, OutputThatAppearsMeanwhile) {
  Cluster cluster({});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kLongRun)).name();
  CatchInMidRun(cluster, name);
  ASSERT_TRUE(MakeFolders(cluster.output("job") + "/mine").ok());
  const Job job = cluster.client().WaitForEnd(name);
  ExpectFailed(job, v1::FAILURE_CLASS_STORAGE);
  EXPECT_THAT(job.status().failure().message(), HasSubstr("exists already"));
  EXPECT_TRUE(cluster.client().Artifacts(name).empty()) << "nothing says that there is a model";
  EXPECT_TRUE(fs::exists(cluster.output("job") + "/mine"));
  ExpectGaplessEvents(cluster, name);
  cluster.ExpectIdle();
}

TEST(FailureTableTest, SlowCommitsDelayNoHeartbeat) {
  Cluster cluster({.workers = 2, .coordinator_flags = {"--test-commit-delay-ms", "200"}});
  const std::string name = cluster.client().Create(cluster.TinyJob("job", kEndlessRun)).name();
  CatchInMidRun(cluster, name);
  std::vector<absl::Duration> latencies =
      MeasureHeartbeats(cluster.worker_address(), 150, absl::Milliseconds(20));
  ASSERT_EQ(latencies.size(), 150u);
  std::sort(latencies.begin(), latencies.end());
  EXPECT_LT(latencies[latencies.size() * 95 / 100], absl::Milliseconds(50));
  EXPECT_LT(latencies.back(), absl::Milliseconds(200)) << "one has waited for a commit";
  cluster.client().Cancel(name);
  cluster.client().WaitForEnd(name);
  for (const v1::Worker& worker : cluster.client().Workers()) {
    if (worker.worker_id() != kProbeWorkerId) {
      EXPECT_EQ(worker.state(), "READY");
    }
  }
  cluster.ExpectIdle();
}

}  // namespace
}  // namespace liger::e2e
