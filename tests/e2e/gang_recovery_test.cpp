// A gang that comes back while something else happens: it is hit again, its newest checkpoint is
// damaged, another job waits for its devices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/checkpoints.h"
#include "common/unique_fd.h"
#include "tests/devices.h"
#include "tests/e2e/expectations.h"
#include "tests/e2e/gang_jobs.h"

namespace liger::e2e {
namespace {

using testing::HasSubstr;
using v1::Job;
using v1::JobStatus;
namespace fs = std::filesystem;

// Another trainer of that rank than `before`; 0 after a minute without one.
pid_t NextTrainerOfRank(const Cluster& cluster, int rank, pid_t before) {
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (absl::Now() < deadline) {
    const pid_t pid = TrainerOfRank(cluster, rank);
    if (pid > 0 && pid != before) return pid;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return 0;
}

class GangRecoveryTest : public testing::TestWithParam<v1::ParallelStrategy> {};
INSTANTIATE_TEST_SUITE_P(, GangRecoveryTest,
                         testing::Values(v1::PARALLEL_STRATEGY_DDP, v1::PARALLEL_STRATEGY_FSDP),
                         [](const auto& info) {
                           return v1::ParallelStrategy_Name(info.param).substr(18);
                         });

// The second attempt is hit while its ranks still look for each other.
TEST_P(GangRecoveryTest, ARankIsKilledAndTheOtherOneAsTheyComeBack) {
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(Gang(cluster, "job", GetParam())).name();
  WaitForCheckpoint(cluster, name, kSaveSteps);
  const pid_t rank0 = TrainerOfRank(cluster, 0), rank1 = TrainerOfRank(cluster, 1);
  ASSERT_GT(rank0, 0);
  ASSERT_GT(rank1, 0);
  kill(rank1, SIGKILL);
  const pid_t next = NextTrainerOfRank(cluster, 0, rank0);
  ASSERT_GT(next, 0);
  kill(next, SIGKILL);
  const Job job = cluster.client().WaitForEnd(name);
  ExpectUndisturbed(cluster, job);
  EXPECT_EQ(job.status().restarts(), 2);
  ASSERT_EQ(job.status().attempts_size(), 3);
  EXPECT_EQ(job.status().attempts(1).first_failed_rank(), 0);
  EXPECT_EQ(job.status().attempts(2).first_failed_rank(), 1);
  const auto points = WaitForPoints(cluster, name, kSteps);
  ASSERT_FALSE(points.empty());
  EXPECT_GT(points.front().step(), kSaveSteps) << "from the newest checkpoint";
  cluster.ExpectIdle();
}

// The manifest of the newest checkpoint is cut while the gang goes from two ranks to one.
TEST_P(GangRecoveryTest, AnElasticJobTakesTheCheckpointBeforeADamagedOne) {
  Cluster cluster({.workers = 2});
  v1::JobSpec spec = Gang(cluster, "job", GetParam());
  spec.mutable_parallel()->set_elastic(true);
  const std::string name = cluster.client().Create(spec).name();
  WaitForCheckpoint(cluster, name, 2 * kSaveSteps);
  const pid_t rank0 = TrainerOfRank(cluster, 0), rank1 = TrainerOfRank(cluster, 1);
  ASSERT_GT(rank0, 0);
  ASSERT_GT(rank1, 0);
  kill(rank0, SIGSTOP);
  kill(rank1, SIGSTOP);
  const int64_t newest = NewestCheckpoint(cluster, name);
  const fs::path folder = cluster.output(name) + ".checkpoints/" + CheckpointName(newest);
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  while (!fs::exists(folder) && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
  fs::resize_file(folder / "manifest.json", fs::file_size(folder / "manifest.json") / 2);
  const Job running = cluster.client().Get(name);
  const int index = cluster.WorkerIndex(running.status().attempts(0).members(1).worker_id());
  ASSERT_GE(index, 0);
  cluster.worker(index).Kill();
  kill(rank0, SIGCONT);

  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, kSteps);
  ASSERT_EQ(job.status().attempts_size(), 2);
  EXPECT_EQ(job.status().attempts(0).members_size(), 1);
  const auto points = WaitForPoints(cluster, name, kSteps);
  ASSERT_GE(points.size(), 10u);
  const int64_t first = newest - kSaveSteps + 1;
  ASSERT_EQ(points.front().step(), first);
  for (int64_t i = 0; i < 10; ++i) {
    ExpectSameLoss(points[i], Undisturbed(GetParam()).points.at(first - 1 + i));
  }
  int quarantined = 0;
  for (const v1::Artifact& artifact : cluster.client().Artifacts(name)) {
    if (artifact.state() != v1::Artifact::QUARANTINED) continue;
    ++quarantined;
    EXPECT_EQ(artifact.step(), newest);
    EXPECT_THAT(artifact.reason(), HasSubstr("manifest.json is no manifest"));
  }
  EXPECT_EQ(quarantined, 1);
  cluster.StartWorker(index);
  cluster.client().WaitForReadyWorkers(2);
  cluster.ExpectIdle();
}

// It came later, and its turn is after the first one's end, whatever happens to that.
TEST_P(GangRecoveryTest, AJobThatWaitsForItsDevicesDoesNotTakeThem) {
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(Gang(cluster, "job", GetParam())).name();
  WaitForCheckpoint(cluster, name, kSaveSteps);
  const std::string pair = cluster.client().Create(Steps(cluster, "pair", 2, 5)).name();
  const std::string single = cluster.client().Create(Steps(cluster, "single", 1, 5)).name();
  cluster.client().WaitForState(pair, JobStatus::QUEUED);
  cluster.client().WaitForState(single, JobStatus::QUEUED);
  const pid_t victim = TrainerOfRank(cluster, 1);
  ASSERT_GT(victim, 0);
  kill(victim, SIGKILL);
  const Job job = cluster.client().WaitForEnd(name);
  ExpectUndisturbed(cluster, job);
  EXPECT_EQ(job.status().restarts(), 1);
  for (const std::string& later : {pair, single}) {
    const Job after = cluster.client().WaitForEnd(later);
    ExpectSucceeded(cluster, after, 5);
    EXPECT_GE(
        absl::FromUnixSeconds(after.start_time().seconds()) +
            absl::Nanoseconds(after.start_time().nanos()),
        absl::FromUnixSeconds(job.end_time().seconds()) + absl::Nanoseconds(job.end_time().nanos()))
        << later;
  }
  cluster.ExpectIdle();
}

// Its worker lives, and the other rank waits for it in a collective.
TEST_P(GangRecoveryTest, AFrozenRankIsNamedWithinTwoMinutes) {
  Cluster cluster({.workers = 2});
  const std::string name = cluster.client().Create(Gang(cluster, "job", GetParam())).name();
  WaitForCheckpoint(cluster, name, kSaveSteps);
  const pid_t frozen = TrainerOfRank(cluster, 1);
  ASSERT_GT(frozen, 0);
  kill(frozen, SIGSTOP);
  cluster.client().WaitUntil(
      name, [](const Job& job) { return job.status().restarts() == 1; }, absl::Minutes(2),
      "found to hang");
  const Job job = cluster.client().WaitForEnd(name);
  ExpectUndisturbed(cluster, job);
  ASSERT_EQ(job.status().attempts_size(), 2);
  const v1::Attempt& lost = job.status().attempts(1);
  EXPECT_EQ(lost.first_failed_rank(), 1) << lost.DebugString();
  EXPECT_THAT(lost.detail(), HasSubstr("rank 1"));
  cluster.ExpectIdle();
}

// Its lease runs out, and its rank 0 goes on where the next attempt already trains.
TEST_P(GangRecoveryTest, AFrozenWorkerThatComesBackDisturbsNothing) {
  if (OnGpus() && GpusOfThisHost() < 3) GTEST_SKIP() << "three workers need three GPUs";
  Cluster cluster({.workers = 3});
  const std::string name = cluster.client().Create(Gang(cluster, "job", GetParam())).name();
  WaitForCheckpoint(cluster, name, kSaveSteps);
  const Job running = cluster.client().Get(name);
  const std::string frozen = running.status().attempts(0).members(0).worker_id();
  const int index = cluster.WorkerIndex(frozen);
  ASSERT_GE(index, 0);
  const pid_t trainer = TrainerOfRank(cluster, 0);
  ASSERT_GT(trainer, 0);
  kill(trainer, SIGSTOP);
  cluster.worker(index).Signal(SIGSTOP);
  cluster.client().WaitUntil(
      name,
      [](const Job& job) {
        return job.status().epoch() == 2 && job.status().state() == JobStatus::RUNNING;
      },
      absl::Minutes(2), "the next attempt");
  cluster.worker(index).Signal(SIGCONT);
  kill(trainer, SIGCONT);
  const Job job = cluster.client().WaitForEnd(name);
  ExpectUndisturbed(cluster, job);
  EXPECT_EQ(job.status().restarts(), 1);
  for (const v1::AttemptMember& member : job.status().attempts(0).members()) {
    EXPECT_NE(member.worker_id(), frozen);
  }
  cluster.client().WaitForReadyWorkers(3);
  cluster.ExpectIdle();
}

// The ranks have one port to meet at, at which somebody else listens.
TEST(RankPortsE2eTest, AGangWaitsForAPortThatIsInUseAndSaysSo) {
  UniqueFd taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(taken.get(), generic, size), 0);
  ASSERT_EQ(listen(taken.get(), 1), 0);
  ASSERT_EQ(getsockname(taken.get(), generic, &size), 0);
  const std::string port = absl::StrCat(ntohs(address.sin_port));
  Cluster cluster({.workers = 2, .worker_flags = {"--rank-ports", absl::StrCat(port, "-", port)}});
  const std::string name = cluster.client().Create(Steps(cluster, "job", 2, 5)).name();
  cluster.client().WaitUntil(
      name, [](const Job& job) { return job.status().reason() == "WorkerRefused"; },
      absl::Minutes(1), "refused");
  const std::string message = cluster.client().Get(name).status().message();
  EXPECT_THAT(message, HasSubstr("every port from " + port));
  EXPECT_THAT(message, HasSubstr("--rank-ports"));
  taken.reset();
  const Job job = cluster.client().WaitForEnd(name);
  ExpectSucceeded(cluster, job, 5);
  EXPECT_EQ(job.status().restarts(), 0);
  cluster.ExpectIdle();
}

}  // namespace
}  // namespace liger::e2e
