#ifndef LIGER_WORKER_AGENT_EXIT_CLASSIFIER_H_
#define LIGER_WORKER_AGENT_EXIT_CLASSIFIER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "liger/v1/job.pb.h"
#include "liger/worker/v1/worker.pb.h"

namespace liger::agent {

v1::Failure MakeFailure(v1::FailureClass failure_class, std::string message, std::string action);

// How one rank's process ended and what it said before.
struct RankOutcome {
  int rank = 0;
  bool done = false;                  // its Done event was read
  bool paused = false;                // its Paused event was read
  std::optional<v1::Failure> failed;  // its Failed event was read
  std::optional<int> wait_status;     // nullopt: not known (restarted agent)
  bool told_to_stop = false;          // while it ran
  bool killed_by_agent = false;       // SIGKILL after a grace, or with the gang
  bool out_of_memory = false;         // the kernel counted an OOM kill just then
  // Not 0: killed because it said nothing, or got no further, for so long.
  absl::Duration silent_for, idle_for;
  // As last heard.
  trainer::v1::Phase phase = trainer::v1::PHASE_UNSPECIFIED;
  int64_t step = 0;
  bool in_slow_call = false;
  // Order in which the ranks ended: lower is earlier.
  int order = 0;

  bool hung() const { return silent_for + idle_for != absl::ZeroDuration(); }
};

// "made no progress for 30m (TRAINING, after step 12)", of a rank that hung.
std::string DescribeHang(const RankOutcome& rank);

struct ExitContext {
  bool cancelled = false;       // the coordinator asked it to stop
  std::string spawn_error;      // not empty: a rank could not be started
  std::string worker_error;     // not empty: the agent failed the task (shutdown, orphaned)
  bool worker_stopped = false;  // that was an orderly stop of the worker
};

// The Exited event but for log_tail. A Failed event says more than anything
// else, unless it says itself that it follows from another rank's end; Done wins
// over what happened after it, then the signal and the kernel's count of OOM kills
// decide.
worker::v1::Exited ClassifyExit(const std::vector<RankOutcome>& ranks, const ExitContext& context);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_EXIT_CLASSIFIER_H_
