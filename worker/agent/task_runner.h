#ifndef LIGER_WORKER_AGENT_TASK_RUNNER_H_
#define LIGER_WORKER_AGENT_TASK_RUNNER_H_

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/event_converter.h"
#include "worker/agent/local_ranks.h"
#include "worker/agent/publications.h"
#include "worker/agent/services.h"
#include "worker/agent/spool.h"

namespace liger::agent {

// One task on this worker, from its Start to the acknowledgement of its exit:
// launches the trainers, carries their events to the spool, stops them, settles
// their publications, and says how it ended.
//
//   kRunning -> kEnded (no process left) -> kExited (Exited is in the spool)
//            -> finished(): acknowledged, logs shipped, folder put away
class TaskRunner {
 public:
  // A task whose trainers cannot be started ends with the reason as its
  // failure; a status means that there is not even a folder to record that in.
  static absl::StatusOr<std::unique_ptr<TaskRunner>> Launch(const Services& services,
                                                            const worker::v1::Prepare& prepare,
                                                            const worker::v1::Start& start);
  // A folder that an earlier agent left: its trainers are cleared away, and
  // what they said is reported. NOT_FOUND when nothing was started in it.
  static absl::StatusOr<std::unique_ptr<TaskRunner>> Recover(const Services& services,
                                                             const AttemptFolder& folder);

  // `connected`: there is a coordinator to tell.
  void Tick(absl::Time now, bool connected);

  void Control(const trainer::v1::Command& command);
  // Tells the trainers to stop and kills them after `grace`. Asking again can
  // only shorten it.
  void Stop(absl::Duration grace, const std::string& reason);
  // The same for a cause on the worker: the task ends as lost, not cancelled.
  void Fail(absl::Duration grace, const std::string& worker_error);
  // The same because the worker stops in order, with a pause first: it costs the job no
  // restart, and no step when its checkpoint is saved within the grace.
  void Vacate(absl::Duration grace, const std::string& reason);
  // The coordinator does not run this task any more: nothing of it becomes visible, its exit is
  // offered for a while, and its files are kept.
  void Disown();
  void Acknowledge(int64_t seq) { spool_->Acknowledge(seq); }

  Publications& publications() { return *publications_; }
  const Publications& publications() const { return *publications_; }
  Spool& spool() { return *spool_; }
  const Spool& spool() const { return *spool_; }
  const trainer::v1::Ref& ref() const { return record_.prepare().ref(); }
  const worker::v1::Master& master() const { return record_.start().master(); }
  bool running() const { return state_ == State::kRunning; }
  bool finished() const { return finished_; }
  std::set<pid_t> Pids() const { return ranks_.Pids(); }
  worker::v1::TaskStatus Status(absl::Time now) const;
  worker::v1::OwnedTask Owned() const;
  // Set once it has exited.
  const worker::v1::Exited* exited() const { return exited_ ? &*exited_ : nullptr; }

 private:
  enum class State { kRunning, kEnded, kExited };

  TaskRunner(const Services& services, AttemptFolder folder, worker::v1::AttemptRecord record,
             std::unique_ptr<Spool> spool);
  absl::Status LaunchTrainers();
  absl::Status WriteLaunch() const;
  void FillCheckpoints(trainer::v1::Launch& launch) const;
  void AddToShipper();
  void ReadEvents(absl::Time now);
  void Take(LocalRank& rank, const trainer::v1::Event& event, absl::Time now);
  void AddFacts(worker::v1::Started* started) const;
  // It has done a step, so that a checkpoint is worth its time.
  bool IsTraining() const;
  // A device that failed is the cause of what looks like a lost process.
  void BlameDevice(worker::v1::Exited* exited) const;
  // Of the rank to blame, or of one that tells of it.
  int LogRank(const worker::v1::Exited& exited) const;
  void FillSpool(absl::Time now);
  void EnforceStop(absl::Time now);
  void OnAllGone();
  void TryExit(absl::Time now);
  worker::v1::Exited MakeExited() const;
  // What went wrong on this worker rather than in the trainer.
  std::optional<v1::Failure> WorkersFailure(const worker::v1::Exited& exited) const;
  // `connected`: time since the last call in which there was a session.
  void TryFinish(absl::Duration connected);

  const Services& services_;
  const AttemptFolder folder_;
  worker::v1::AttemptRecord record_;
  std::unique_ptr<Spool> spool_;
  LocalRanks ranks_;
  EventConverter converter_;
  std::unique_ptr<Publications> publications_;
  // Converted and not yet in the spool: a result waits there until it is
  // verified, and what follows waits behind it.
  std::deque<ConvertedEvent> converted_;
  absl::Status spool_failure_;  // of the last attempt to fill it
  bool result_lost_ = false;    // with it

  State state_ = State::kRunning;
  std::optional<absl::Time> stop_at_;  // of a pause
  std::optional<absl::Time> kill_at_;
  std::string spawn_error_;
  std::optional<v1::Failure> launch_failure_;
  std::string worker_error_;
  bool vacated_ = false;  // that is the reason
  std::set<std::string> commands_seen_;
  std::map<std::string, std::string> communication_;
  std::optional<worker::v1::Exited> exited_;
  absl::Time last_tick_ = absl::InfinitePast();
  // Connected time since the exit, and since its acknowledgement.
  absl::Duration offered_, shipping_;
  bool disowned_ = false;
  bool finished_ = false;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_TASK_RUNNER_H_
