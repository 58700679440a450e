#ifndef LIGER_TESTS_E2E_EXPECTATIONS_H_
#define LIGER_TESTS_E2E_EXPECTATIONS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/e2e/cluster.h"

namespace liger::e2e {

// Long enough to be in the middle of (some 5 s), short enough to wait for.
inline constexpr int64_t kLongRun = 2500;
// Ends only when it is told to.
inline constexpr int64_t kEndlessRun = 1'000'000;

struct CliResult {
  int code = -1;
  std::string out;  // and what went to standard error
};

// liger-cli against the cluster, with the words of a shell's command line.
CliResult RunCli(const Cluster& cluster, const std::string& words);

// Waits until the job trains, and makes sure that it still does. Returns its
// trainer; a failed test and 0 when there is none.
pid_t CatchInMidRun(Cluster& cluster, const std::string& job);

void ExpectSucceeded(Cluster& cluster, const v1::Job& job, int64_t steps);
// FAILED with a cause and an action, after one attempt or none.
void ExpectFailed(const v1::Job& job, v1::FailureClass failure_class);
// Steps 1 to `steps`, each once, and nothing beyond.
void ExpectEveryStepOnce(Cluster& cluster, const std::string& job, int64_t steps);
// The logged steps of the job's last attempt, once the last of them, which is `steps`, has come:
// metrics reach the store in batches.
std::vector<v1::MetricPoint> WaitForPoints(Cluster& cluster, const std::string& job, int64_t steps);
// Kills the coordinator under a running job and starts it again after `outage`:
// the same trainer goes on, no step is repeated and none is missing.
void ExpectAdoptionAfterOutage(const ClusterOptions& options, absl::Duration outage);
// From 1 without a gap to the event that ended the job.
void ExpectGaplessEvents(Cluster& cluster, const std::string& job);

}  // namespace liger::e2e

#endif  // LIGER_TESTS_E2E_EXPECTATIONS_H_
