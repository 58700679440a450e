#ifndef LIGER_WORKER_AGENT_LOCAL_RANKS_H_
#define LIGER_WORKER_AGENT_LOCAL_RANKS_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "liger/worker/v1/agent_state.pb.h"
#include "worker/agent/attempt_folder.h"
#include "worker/agent/event_tail.h"
#include "worker/agent/exit_classifier.h"
#include "worker/agent/oom_watch.h"
#include "worker/agent/spawner.h"
#include "common/unique_fd.h"

namespace liger::agent {

// How long a rank may go on before it counts as hung: without a word, without
// progress, and without progress while it waits for a disk.
struct HangLimits {
  absl::Duration silence;
  absl::Duration idleness;
  absl::Duration slow_call;
};

// One trainer process of this worker and what it has said so far.
struct LocalRank {
  LocalRank(int rank, const std::string& events_path) : tail(events_path) { outcome.rank = rank; }

  // Notes what an event says about how the rank is.
  void Hear(const trainer::v1::Event& event);

  EventTail tail;
  RankOutcome outcome;
  ProcessId process;
  UniqueFd commands;      // write end of its LIGER_COMMANDS_FD
  bool gone = true;       // its process has ended, or was never started
  absl::Duration silent;  // since its last event, or since the one that ends it
  absl::Duration idle;    // since its work last got on
  int64_t progress = 0;   // as its last Alive counts it
};

// The trainer processes of one task on this worker: started together, told
// together, and all gone before the task's devices are free.
class LocalRanks {
 public:
  LocalRanks(const AttemptFolder& folder, const worker::v1::Prepare& prepare);

  // Starts rank by rank; `environments` has one per rank, in order. On failure
  // those already started are killed.
  absl::Status Launch(Spawner& spawner, const std::string& program,
                      const std::vector<std::map<std::string, std::string>>& environments);
  // After a restart: kills what the last agent left running. The events that it
  // wrote are still to be read.
  void ClearLeftovers(const worker::v1::AttemptRecord& record, const std::string& boot_id);

  // To every running rank. A rank that does not read its pipe is killed later.
  void Send(const trainer::v1::Command& command);
  void Kill();
  // Adds `passed` to each running rank's silence and idleness, and kills those
  // that are over a limit.
  void KillHung(absl::Duration passed, const HangLimits& limits);
  // Notes the ranks that have ended since the last call.
  void Reap(absl::Time now);
  // Kills what the trainers left behind; true when nothing carries the mark.
  bool ClearStrays();

  bool AllGone() const;
  // A rank has ended without having finished its work.
  bool AnyFailed() const;
  std::vector<worker::v1::TrainerProcess> Processes() const;
  std::set<pid_t> Pids() const;
  std::vector<RankOutcome> Outcomes() const;
  std::vector<LocalRank>& ranks() { return ranks_; }
  const std::vector<LocalRank>& ranks() const { return ranks_; }
  int leading_rank() const { return ranks_.empty() ? 0 : ranks_.front().outcome.rank; }

 private:
  absl::Status LaunchOne(Spawner& spawner, const std::string& program,
                         std::map<std::string, std::string> environment, LocalRank& rank);

  const AttemptFolder folder_;
  std::vector<LocalRank> ranks_;
  OomWatch oom_watch_;
  int ended_ = 0;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_LOCAL_RANKS_H_
