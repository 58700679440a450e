#ifndef LIGER_TESTS_E2E_GANG_JOBS_H_
#define LIGER_TESTS_E2E_GANG_JOBS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/e2e/cluster.h"

// Jobs of two ranks, one on each of two workers, that save checkpoints: what disturbs one must not
// show in what it gives.
namespace liger::e2e {

inline constexpr int64_t kSteps = 200;
inline constexpr int64_t kSaveSteps = 20;

// Steps of two rows, on one device or one on each of two.
v1::JobSpec Steps(const Cluster& cluster, const std::string& name, int ranks, int64_t steps);
// kSteps on two devices, with a checkpoint every kSaveSteps.
v1::JobSpec Gang(const Cluster& cluster, const std::string& name,
                 v1::ParallelStrategy strategy = v1::PARALLEL_STRATEGY_DDP);

// Of its model's file; a text without one.
std::string ModelDigest(const Cluster& cluster, const std::string& name);

// What an undisturbed run of Gang gives, which is made once for each strategy.
struct Reference {
  std::string model_digest;
  std::vector<v1::MetricPoint> points;
};
const Reference& Undisturbed(v1::ParallelStrategy strategy);

// Loss and gradient norm, within 1e-5.
void ExpectSameLoss(const v1::MetricPoint& actual, const v1::MetricPoint& expected);
// It succeeded with the undisturbed run's model, to the last bit, and from its checkpoints.
void ExpectUndisturbed(Cluster& cluster, const v1::Job& job);

// Step of the newest one that the coordinator lists; 0: none.
int64_t NewestCheckpoint(Cluster& cluster, const std::string& name);
// Fails the test when the job has none of that step or a later one within two minutes.
void WaitForCheckpoint(Cluster& cluster, const std::string& name, int64_t step);

// 0 when it does not run.
pid_t TrainerOfRank(const Cluster& cluster, int rank);

}  // namespace liger::e2e

#endif  // LIGER_TESTS_E2E_GANG_JOBS_H_
