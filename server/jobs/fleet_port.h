#ifndef LIGER_SERVER_JOBS_FLEET_PORT_H_
#define LIGER_SERVER_JOBS_FLEET_PORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "liger/trainer/v1/trainer.pb.h"
#include "liger/v1/job_spec.pb.h"
#include "liger/worker/v1/worker.pb.h"
#include "server/store/commands.h"

namespace liger::server {

// A task to bring up on a worker: Prepare, and Start once it is Prepared.
struct TaskStart {
  std::string worker_id;
  liger::trainer::v1::Ref ref;
  liger::trainer::v1::TaskKind kind = liger::trainer::v1::TASK_KIND_TRAIN;
  liger::worker::v1::Gang gang;
  std::vector<liger::worker::v1::LocalRank> local_ranks;  // empty for CHECK
  liger::v1::JobSpec resolved_spec;
  std::string spec_hash;
  std::string resume_from;
  int64_t check_max_rows = 0;
  double check_seconds = 0;
  // The worker may have begun it before: only its own word, not a failure to
  // reach it, says that it does not run.
  bool repeated = false;
};

// What the job logic asks of the fleet (server/fleet implements it).
//
// Threads: called from any thread, without a lock held, often the store's
// writer. An implementation queues the message and returns; it must not wait,
// and may call JobService back. A worker without a session, or whose session
// has no Welcome yet, loses the message (StartGang answers that): reconciliation
// on its next Hello, or the end of its lease, settles it.
class FleetPort {
 public:
  virtual ~FleetPort() = default;
  // It has a session, and got its Welcome.
  virtual bool IsConnected(const std::string& worker_id) const = 0;
  // It is connected and does not drain: something new may be sent there.
  virtual bool TakesTasks(const std::string& worker_id) const = 0;
  // Why it takes no tasks though it is connected, as it said last; empty: it does.
  virtual std::string WhyUnfit(const std::string&) const { return ""; }
  // Ends the worker's session: what it owns and what it reported is reconciled
  // with its next Hello.
  virtual void Disconnect(const std::string& worker_id, const std::string& reason) = 0;
  // Brings up a task on all its workers, or on none: Prepare to each, and Start once
  // all have prepared it. Idempotent by ref. The fleet answers once with
  // JobService::OnTaskRefused when a worker refuses, is not Prepared in time, or its
  // session ends before the Start (the others get Abort); but for a repeated start,
  // which is of one worker, only when it refuses.
  virtual void StartGang(const std::vector<TaskStart>& members) = 0;
  // Control STOP. For a task whose Start was not sent yet: Abort to all its workers, and
  // JobService::OnTaskRefused, because no exit will be reported for it.
  virtual void StopTask(const TaskStop& stop, double grace_seconds, const std::string& reason) = 0;
  // Control PAUSE, for one whose trainers run.
  virtual void PauseTask(const TaskStop& stop) = 0;
  virtual void AckEvents(const std::string& worker_id, const liger::trainer::v1::Ref& ref,
                         int64_t through_seq) = 0;
  virtual void AnswerPublish(const PublishAnswer& answer) = 0;
  // Has it scan its roots. Answered with JobService::OnLooked; a session that ends
  // first loses it.
  virtual void Look(const std::string& worker_id, int64_t id) = 0;
  // Answered with JobService::OnReclaimed.
  virtual void Reclaim(const std::string& worker_id, const std::vector<ReclaimRow>& outputs) = 0;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_FLEET_PORT_H_
