#ifndef LIGER_SERVER_JOBS_JOB_SERVICE_H_
#define LIGER_SERVER_JOBS_JOB_SERVICE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/ids.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "liger/v1/fine_tuning.pb.h"
#include "liger/worker/v1/worker.pb.h"
#include "server/catalog/catalog.h"
#include "server/jobs/fleet_port.h"
#include "server/jobs/spec_resolver.h"
#include "server/store/store.h"

namespace liger::server {

struct JobServiceOptions {
  const Clock* clock = Clock::Real();
  // A fresh identifier of lower-case letters and digits.
  std::function<std::string()> new_id = [] { return RandomSuffix(16); };
  // Attempts that may be lost to infrastructure before the job fails.
  int32_t max_restarts = 2;
  // From STOP to SIGKILL, and from a cancel to CANCELLED whatever the worker
  // does (its devices stay occupied until it reports).
  double stop_grace_seconds = 5;
  double cancel_deadline_seconds = 9;
  // Progress is written at most this often for a job.
  double progress_interval_seconds = 1;
  // From the first end that breaks a gang to the attempt's, when others do not tell
  // theirs. Longer than a lease: a worker that is gone counts as the cause.
  double gang_settle_seconds = 25;
  // A placement that a worker refused is not tried again for this long.
  double refusal_backoff_seconds = 2;
  // A job whose model or dataset is on none of the connected workers, or whose ranks no GPU of a
  // worker ever seen is large enough for, fails after this long. (Files are refused at once when
  // inventories are known.)
  double absent_grace_seconds = 30;
  // A dry run without an answer ends after this long.
  double validate_timeout_seconds = 60;
  // A dry run reads so many rows of each file, and as many more as it can for so long, which
  // leaves a good deal of its time; jobs are checked in full.
  int64_t validate_max_rows = 1000;
  double validate_row_seconds = 15;
  // Metrics and logs of jobs that ended longer ago go.
  double metrics_retention_seconds = 30 * 24 * 3600.0;
  // Removes such log files from disk; called on a store thread, may be empty.
  std::function<void(const std::vector<LogFileRow>&)> remove_log_files;
};

// What the fleet puts into Welcome.
struct HelloAnswer {
  std::vector<liger::worker::v1::Verdict> verdicts;
};

// Decides what follows from what users ask and workers report, as store
// commands, and tells the fleet to act once they are committed. The one caller
// of Store::Apply besides server/metrics (AppendMetrics, PutLogFiles). Reads
// go to the store directly.
//
// Threads: every method may be called from any thread, a gRPC thread too, and
// returns without waiting for disk. Callbacks come exactly once, on a thread of
// the store or the caller's, without a lock held.
class JobService {
 public:
  // `store` and `catalog` outlive the service; `fleet` may be called until
  // Stop() returns.
  JobService(Store* store, const Catalog* catalog, JobServiceOptions options);
  ~JobService();

  // Loads the known workers and begins to schedule. Blocks; call it before the
  // ports open. Workers keep their state; the fleet gives each READY one a full
  // lease and calls OnWorkerLost if that runs out.
  absl::Status Start(FleetPort* fleet);
  // After this returns the fleet is not called again. Call before the store closes.
  void Stop();

  // ---- for server/api

  struct SubmitRequest {
    std::string tenant;
    std::string actor;  // "user" or "user:<name>"
    liger::v1::JobSpec spec;
    std::string request_id;
  };
  struct SubmitResult {
    liger::v1::Job job;
    std::vector<std::string> notices;
    std::vector<liger::v1::Warning> warnings;
    std::vector<std::string> checks_run;      // Validate only
    std::vector<std::string> checks_skipped;  // Validate only
  };
  using SubmitDone = std::function<void(absl::StatusOr<SubmitResult>)>;

  // Resolves the spec and makes a job. INVALID_ARGUMENT with the fields
  // (server/errors); ALREADY_EXISTS REQUEST_ID_REUSED or NAME_TAKEN. A request
  // that was answered before gets the same job, whatever is there now.
  void Submit(SubmitRequest request, SubmitDone done);
  // As Submit, with a bounded CHECK on a worker, and makes nothing. What it
  // returns gives the check up: `done` gets CANCELLED, unless it was called
  // before.
  std::function<void()> Validate(SubmitRequest request, SubmitDone done);

  // What Submit would make of a spec now, without the store: INVALID_ARGUMENT with
  // the fields. Does not wait.
  absl::StatusOr<ResolvedSpec> Resolve(const liger::v1::JobSpec& spec) const;
  // Gets the workers that were asked, and the ids of those that have answered.
  using LookDone =
      std::function<void(std::vector<WorkerRow> asked, const std::set<std::string>& answered)>;
  // Has the connected workers scan their roots. Those that have within 10 s list files as
  // they were after this call, or later. One that has not is not waited for again until it
  // answers something newer.
  void Look(LookDone done);
  // Tells the workers what to remove, as far as they are connected.
  void Reclaim(const std::vector<ReclaimRow>& outputs);

  using JobDone = std::function<void(absl::StatusOr<liger::v1::Job>)>;
  void Cancel(const std::string& tenant, const std::string& actor, const std::string& job,
              const std::string& reason, JobDone done);
  void Pause(const std::string& tenant, const std::string& actor, const std::string& job,
             const std::string& reason, JobDone done);
  void Resume(const std::string& tenant, const std::string& actor, const std::string& job,
              JobDone done);
  // The result's log files are the caller's to remove; the output, if asked, the
  // workers', now or when they are back.
  void Delete(const std::string& tenant, const std::string& actor, const std::string& job,
              bool delete_output, std::function<void(absl::StatusOr<DeleteJob::Result>)> done);

  // Workers that get nothing for a while since they failed what they got, and why.
  std::map<std::string, std::string> RestingWorkers() const;

  // ---- for server/fleet

  // A worker opened a session. Called again when it reconnects. `done` gets what
  // goes into Welcome; send Welcome inside it: tasks to start again and grants
  // to repeat follow through FleetPort when `done` returns. An error
  // (STALE_INCARNATION) closes the session.
  void OnHello(const liger::worker::v1::Hello& hello,
               std::function<void(absl::StatusOr<HelloAnswer>)> done);
  // Every heartbeat, with the tasks that it lists. Compared with the store now and
  // then: what nobody knows is stopped, and a session whose heartbeats lack a task
  // for long ends, as the next Hello settles that.
  void OnHeartbeat(const std::string& worker_id, std::vector<liger::trainer::v1::Ref> tasks);
  // A heartbeat with inventory_changed.
  void OnInventory(const std::string& worker_id, int64_t incarnation,
                   std::vector<liger::worker::v1::InventoryItem> inventory);
  // A heartbeat answers FleetPort::Look, after its inventory was told.
  void OnLooked(const std::string& worker_id, int64_t id);
  // reassign_seconds without a heartbeat. A closed session alone is nothing. A
  // worker that is connected all the same is not lost.
  void OnWorkerLost(const std::string& worker_id, int64_t incarnation);
  // Refused, not Prepared in time, or given up before the Start. `others_run`: the
  // gang's other workers were told to start it.
  void OnTaskRefused(const std::string& worker_id, const liger::trainer::v1::Ref& ref,
                     const std::string& reason, bool others_run);
  // What a heartbeat says of its fitness has changed; empty: it takes tasks.
  void OnFitness(const std::string& worker_id, const std::string& unfit);
  // The worker itself said so, for want of what any task needs; OnTaskRefused follows.
  void OnWorkerRefused(const std::string& worker_id, const liger::trainer::v1::Ref& ref,
                       const std::string& reason);
  // A heartbeat tells of devices that failed.
  void OnDeviceFaults(const std::string& worker_id, int64_t incarnation,
                      std::vector<liger::worker::v1::DeviceFault> faults);
  // The worker has removed these outputs, or found something else there.
  void OnReclaimed(const std::string& worker_id, std::vector<ReclaimRow> outputs);
  // Every TaskEvent of a session, those of a task in order. The
  // acknowledgement comes through FleetPort::AckEvents after the commit. A gap
  // in seq, or a report that can never be stored, ends the session: the worker
  // replays in its next one.
  void OnTaskEvent(const std::string& worker_id, const liger::worker::v1::TaskEvent& event);

  // Time passes: writes progress, ends cancels that are overdue, schedules.
  // Call every 200 ms or so.
  void Tick();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_JOB_SERVICE_H_
