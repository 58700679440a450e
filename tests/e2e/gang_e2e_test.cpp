// A job of two ranks, one on each of two workers, with real processes: what it gives, and that it
// still gives that, to the last bit, when something dies. Tests named Long* are `make test-long`'s.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/checkpoints.h"
#include "common/file.h"
#include "tests/devices.h"
#include "tests/e2e/expectations.h"
#include "tests/e2e/gang_jobs.h"
#include "worker/agent/publisher.h"

namespace liger::e2e {
namespace {

using testing::HasSubstr;
using v1::Job;
using v1::JobStatus;
namespace fs = std::filesystem;

TEST(GangE2eTest, OneRankAWorkerIsOneDevice) {
  Cluster cluster({.workers = 2});
  constexpr int64_t kFew = 30;
  cluster.client().Create(Steps(cluster, "one", 1, kFew));
  cluster.client().Create(Steps(cluster, "two", 2, kFew));
  ExpectSucceeded(cluster, cluster.client().WaitForEnd("one"), kFew);
  const Job two = cluster.client().WaitForEnd("two");
  ExpectSucceeded(cluster, two, kFew);
  const v1::Attempt& attempt = two.status().attempts(0);
  ASSERT_EQ(attempt.members_size(), 2);
  EXPECT_NE(attempt.members(0).worker_id(), attempt.members(1).worker_id());
  EXPECT_THAT(attempt.members(1).ranks(), testing::ElementsAre(1));
  EXPECT_EQ(attempt.communication().at("WORLD_SIZE"), "2");
  ExpectEveryStepOnce(cluster, "one", kFew);
  ExpectEveryStepOnce(cluster, "two", kFew);
  const auto expected = cluster.client().Metrics("one"), actual = cluster.client().Metrics("two");
  for (size_t i = 0; i < expected.size(); ++i) ExpectSameLoss(actual[i], expected[i]);
  cluster.ExpectIdle();
}

// Its rows are long, and the other rank's short.
TEST(GangE2eTest, ARankThatTheOtherWaitsForIsAnEventWithItsFigures) {
  if (OnGpus()) GTEST_SKIP() << "a GPU takes a thousand tokens of this model as soon as four";
  Cluster cluster({.workers = 2});
  std::string rows;
  for (int row = 0; row < 64; ++row) {
    rows += absl::StrCat(R"({"prompt": "a", "completion": ")",
                         std::string(row % 2 == 0 ? 4 : 1000, 'b'), "\"}\n");
  }
  ASSERT_TRUE(WriteFileAtomically(cluster.datasets() + "/uneven.jsonl", rows).ok());
  constexpr int64_t kSome = 50;
  v1::JobSpec spec = Steps(cluster, "job", 2, kSome);
  spec.mutable_dataset()->set_uri("uneven.jsonl");
  spec.mutable_dataset()->set_shuffle(false);
  spec.mutable_training()->set_max_length(1024);
  const std::string name = cluster.client().Create(spec).name();
  ExpectSucceeded(cluster, cluster.client().WaitForEnd(name), kSome);
  std::vector<std::string> told;
  for (const v1::JobEvent& event : cluster.client().Events(name)) {
    if (event.reason() == "Straggler") told.push_back(event.message());
  }
  EXPECT_THAT(told, testing::Contains(testing::AllOf(HasSubstr("rank 1 works "),
                                                     HasSubstr("s a step, the others "))));
  EXPECT_THAT(told, testing::Not(testing::Contains(HasSubstr("rank 0 works "))));
  cluster.ExpectIdle();
}

// Hosts without shared storage, one of which has other weights of that name.
TEST(GangE2eTest, WorkersWithDifferentWeightsAreRefused) {
  Cluster cluster({.workers = 2, .own_models = true});
  cluster.client().Create(Steps(cluster, "weights", 1, 2));
  ExpectSucceeded(cluster, cluster.client().WaitForEnd("weights"), 2);
  for (const int worker : {0, 1}) {
    fs::copy(cluster.output("weights"), cluster.models(worker) + "/trained",
             fs::copy_options::recursive);
  }
  const std::string file = cluster.models(1) + "/trained/model.safetensors";
  std::string weights = ReadFile(file).value();
  weights[weights.size() - 6] ^= 1;
  ASSERT_TRUE(WriteFileAtomically(file, weights).ok());
  for (const auto& [name, strategy] : {std::pair("ddp", v1::PARALLEL_STRATEGY_DDP),
                                       std::pair("fsdp", v1::PARALLEL_STRATEGY_FSDP)}) {
    v1::JobSpec spec = Steps(cluster, name, 2, 10);
    spec.mutable_model()->set_uri("trained");
    spec.mutable_model()->set_random_init(false);
    spec.mutable_parallel()->set_strategy(strategy);
    const Job job = cluster.client().WaitForEnd(cluster.client().Create(spec).name());
    ExpectFailed(job, v1::FAILURE_CLASS_CONFIG);
    EXPECT_THAT(job.status().failure().message(),
                HasSubstr("rank 1 differs from rank 0 in the checksum of the weights"));
  }
  cluster.ExpectIdle();
}

// A gang whose rank 1 is killed after a checkpoint, at its end after one restart.
Job LoseRank1(Cluster& cluster, v1::ParallelStrategy strategy) {
  const std::string name = cluster.client().Create(Gang(cluster, "job", strategy)).name();
  WaitForCheckpoint(cluster, name, kSaveSteps);
  const pid_t victim = TrainerOfRank(cluster, 1);
  EXPECT_GT(victim, 0);
  if (victim > 0) kill(victim, SIGKILL);
  Job job = cluster.client().WaitForEnd(name);
  EXPECT_EQ(job.status().epoch(), 2);
  EXPECT_EQ(job.status().restarts(), 1);
  return job;
}

class GangStrategyTest : public testing::TestWithParam<v1::ParallelStrategy> {};

TEST_P(GangStrategyTest, ARankIsKilled) {
  Cluster cluster({.workers = 2});
  const Job job = LoseRank1(cluster, GetParam());
  const std::string& name = job.name();
  ExpectUndisturbed(cluster, job);
  ASSERT_EQ(job.status().attempts_size(), 2);
  const v1::Attempt& lost = job.status().attempts(1);
  EXPECT_EQ(lost.first_failed_rank(), 1) << lost.DebugString();
  EXPECT_EQ(lost.failure_class(), v1::FAILURE_CLASS_INFRA);
  EXPECT_THAT(lost.detail(), HasSubstr("rank 1"));
  const auto points = WaitForPoints(cluster, name, kSteps);
  ASSERT_FALSE(points.empty());
  EXPECT_GT(points.front().step(), kSaveSteps) << "from the newest checkpoint";
  cluster.ExpectIdle();
}

// Hosts without shared storage: one rank's worker does not have the other's checkpoints.
TEST_P(GangStrategyTest, WithoutASharedOutputRootItBeginsAgainAndSaysWhy) {
  Cluster cluster({.workers = 2, .own_outputs = true});
  const Job job = LoseRank1(cluster, GetParam());
  const std::string& name = job.name();
  ExpectSucceeded(cluster, job, kSteps);
  std::vector<std::string> told;
  for (const v1::JobEvent& event : cluster.client().Events(name)) {
    if (event.reason() == "NotResumed") told.push_back(event.message());
  }
  EXPECT_THAT(told, testing::ElementsAre(
                        testing::AllOf(HasSubstr(" on host "), HasSubstr(" does not see "),
                                       HasSubstr("must have one folder as their --output-root")),
                        HasSubstr("it starts again")));
  EXPECT_EQ(ModelDigest(cluster, name), Undisturbed(GetParam()).model_digest);
  cluster.ExpectIdle();
}

INSTANTIATE_TEST_SUITE_P(, GangStrategyTest,
                         testing::Values(v1::PARALLEL_STRATEGY_DDP, v1::PARALLEL_STRATEGY_FSDP),
                         [](const auto& info) {
                           return v1::ParallelStrategy_Name(info.param).substr(18);
                         });

TEST(GangE2eTest, AWorkerIsKilledWithHalfOfTheGang) {
  if (OnGpus() && GpusOfThisHost() < 3) GTEST_SKIP() << "three workers need three GPUs";
  Cluster cluster({.workers = 3});
  const std::string name = cluster.client().Create(Gang(cluster, "job")).name();
  WaitForCheckpoint(cluster, name, kSaveSteps);
  const Job running = cluster.client().Get(name);
  const std::string lost = running.status().attempts(0).members(1).worker_id();
  const int index = cluster.WorkerIndex(lost);
  ASSERT_GE(index, 0);
  cluster.worker(index).Kill();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectUndisturbed(cluster, job);
  EXPECT_EQ(job.status().epoch(), 2);
  EXPECT_EQ(job.status().restarts(), 1);
  for (const v1::AttemptMember& member : job.status().attempts(0).members()) {
    EXPECT_NE(member.worker_id(), lost);
  }
  cluster.StartWorker(index);
  cluster.client().WaitForReadyWorkers(3);
  cluster.ExpectIdle();
}

// On half of the devices, with twice the micro-batches.
TEST(GangE2eTest, AnElasticJobGoesOnOnTheWorkerThatIsLeft) {
  Cluster cluster({.workers = 2});
  v1::JobSpec spec = Gang(cluster, "job");
  spec.mutable_parallel()->set_elastic(true);
  const std::string name = cluster.client().Create(spec).name();
  WaitForCheckpoint(cluster, name, kSaveSteps);
  const Job running = cluster.client().Get(name);
  const int index = cluster.WorkerIndex(running.status().attempts(0).members(1).worker_id());
  ASSERT_GE(index, 0);
  cluster.worker(index).Kill();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kSteps);
  EXPECT_EQ(job.status().epoch(), 2);
  EXPECT_EQ(job.status().attempts(0).members_size(), 1);
  EXPECT_EQ(job.resolved_spec().resources().count(), 2) << "what it asks for stays";
  const auto points = WaitForPoints(cluster, name, kSteps);
  ASSERT_GE(points.size(), 10u);
  const int64_t first = points.front().step();
  EXPECT_GT(first, kSaveSteps) << "from the newest checkpoint";
  for (int64_t i = 0; i < 10; ++i) {
    ExpectSameLoss(points[i], Undisturbed(v1::PARALLEL_STRATEGY_DDP).points.at(first - 1 + i));
  }
  cluster.StartWorker(index);
  cluster.client().WaitForReadyWorkers(2);
  cluster.ExpectIdle();
}

TEST(GangE2eTest, TheCoordinatorIsKilledWhileAGangStarts) {
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(Gang(cluster, "job")).name();
  cluster.client().WaitForState(name, JobStatus::STARTING);
  cluster.coordinator().Kill();
  cluster.StartCoordinator();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectUndisturbed(cluster, job);
  EXPECT_EQ(job.status().restarts(), 0);
  cluster.ExpectIdle();
}

// ---- for long: LIGER_LONG_SEEDS and LIGER_LONG_KILLS make them shorter

int FromEnvironment(const char* name, int usual) {
  const char* text = std::getenv(name);
  return text == nullptr ? usual : std::atoi(text);
}

TEST(GangE2eTest, LongARankIsKilledAtAnyStep) {
  const int seeds = FromEnvironment("LIGER_LONG_SEEDS", 20);
  Cluster cluster({.workers = 2});
  for (int seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937 random(seed);
    const int64_t step = std::uniform_int_distribution<int64_t>(1, kSteps - kSaveSteps)(random);
    const int rank = std::uniform_int_distribution<int>(0, 1)(random);
    const std::string name =
        cluster.client().Create(Gang(cluster, absl::StrCat("job-", seed))).name();
    cluster.client().WaitForStep(name, step);
    const pid_t victim = TrainerOfRank(cluster, rank);
    if (victim > 0) kill(victim, SIGKILL);
    const Job job = cluster.client().WaitForEnd(name);
    ExpectUndisturbed(cluster, job);
    EXPECT_EQ(job.status().restarts(), 1);
    ASSERT_EQ(job.status().attempts_size(), 2);
    EXPECT_EQ(job.status().attempts(1).first_failed_rank(), rank)
        << job.status().attempts(1).DebugString();
    cluster.ExpectIdle();
  }
}

// What is published is whole, whenever its trainer was killed.
TEST(GangE2eTest, LongATrainerIsKilledWhileItSaves) {
  const int kills = FromEnvironment("LIGER_LONG_KILLS", 50);
  Cluster cluster({.coordinator_flags = {"--max-restarts", "1000"}});
  v1::JobSpec spec = cluster.TinyJob("job", kEndlessRun);
  spec.mutable_training()->set_save_steps(1);
  spec.mutable_training()->set_save_total_limit(3);
  const std::string name = cluster.client().Create(spec).name();
  std::mt19937 random(1);
  int checked = 0;
  for (int i = 1; i <= kills; ++i) {
    const int64_t before = NewestCheckpoint(cluster, name);
    WaitForCheckpoint(cluster, name, before + 3);
    absl::SleepFor(absl::Microseconds(std::uniform_int_distribution<int>(0, 20000)(random)));
    const pid_t victim = TrainerOfRank(cluster, 0);
    ASSERT_GT(victim, 0);
    kill(victim, SIGKILL);
    cluster.client().WaitUntil(
        name, [i](const Job& job) { return job.status().epoch() > i; }, absl::Minutes(1), "again");
    for (const v1::Artifact& artifact : cluster.client().Artifacts(name)) {
      const std::string dir = artifact.uri().substr(std::string("file://").size());
      const absl::Status whole = agent::VerifyManifest(dir, artifact.digest());
      // One that is listed no more was removed for newer ones.
      const auto listed = cluster.client().Artifacts(name);
      const bool still = std::any_of(listed.begin(), listed.end(), [&](const v1::Artifact& other) {
        return other.id() == artifact.id();
      });
      if (!still) continue;
      EXPECT_TRUE(whole.ok()) << whole;
      ++checked;
    }
  }
  EXPECT_GE(checked, kills);
  for (const auto& warning : cluster.client().Get(name).status().warnings()) {
    EXPECT_NE(warning.code(), "NotResumed") << warning.message();
  }
  cluster.client().Cancel(name);
  cluster.client().WaitForEnd(name);
  cluster.ExpectIdle();
}

}  // namespace
}  // namespace liger::e2e
