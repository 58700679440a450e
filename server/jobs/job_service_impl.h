#ifndef LIGER_SERVER_JOBS_JOB_SERVICE_IMPL_H_
#define LIGER_SERVER_JOBS_JOB_SERVICE_IMPL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/jobs/dry_runs.h"
#include "server/jobs/job_service.h"
#include "server/jobs/report_buffer.h"
#include "server/jobs/schedule_loop.h"
#include "server/jobs/service_state.h"
#include "server/jobs/spec_resolver.h"
#include "server/jobs/task_audit.h"

namespace liger::server {

inline constexpr int64_t kSecondUs = 1000000;

// Of what a request asks for: another one of its id must ask for the same.
std::string BodyHash(const liger::v1::JobSpec& spec);

// Held by every callback under way, so that none outlives it. What users ask is
// in job_requests.cpp and dry_run_requests.cpp, what workers say in worker_reports.cpp.
class JobService::Impl : public std::enable_shared_from_this<JobService::Impl> {
 public:
  Impl(Store* store, const Catalog* catalog, JobServiceOptions options)
      : store_(*store),
        catalog_(*catalog),
        state_(std::make_shared<ServiceState>(std::move(options))),
        loop_(std::make_shared<ScheduleLoop>(store, catalog, state_)),
        buffer_(options_.max_restarts) {}

  absl::Status Start(FleetPort* fleet);
  void Stop();

  void Submit(SubmitRequest request, SubmitDone done);
  std::function<void()> Validate(SubmitRequest request, SubmitDone done);
  absl::StatusOr<ResolvedSpec> Resolve(const liger::v1::JobSpec& spec) const;
  void Look(JobService::LookDone done);
  void Reclaim(const std::vector<ReclaimRow>& outputs);
  void Cancel(CancelJob command, const std::string& actor, JobDone done);
  void Pause(PauseJob command, const std::string& actor, JobDone done);
  void Resume(ResumeJob command, const std::string& actor, JobDone done);
  void Delete(DeleteJob command, const std::string& actor,
              std::function<void(absl::StatusOr<DeleteJob::Result>)> done);
  void OnHello(const liger::worker::v1::Hello& hello,
               std::function<void(absl::StatusOr<HelloAnswer>)> done);
  void OnHeartbeat(const std::string& worker_id, std::vector<liger::trainer::v1::Ref> tasks);
  void OnInventory(UpdateInventory command);
  void OnLooked(const std::string& worker_id, int64_t id) { looks_.OnLooked(worker_id, id); }
  void OnWorkerLost(LoseWorker command);
  void OnTaskRefused(const std::string& worker_id, const liger::trainer::v1::Ref& ref,
                     const std::string& reason, bool others_run);
  void OnFitness(const std::string& worker_id, const std::string& unfit);
  void OnWorkerRefused(const std::string& worker_id, const liger::trainer::v1::Ref& ref,
                       const std::string& reason) {
    state_->health.OnRefused(worker_id, ref.job_uid(), reason, SteadyUs());
  }
  std::map<std::string, std::string> RestingWorkers() const {
    return state_->health.Resting(SteadyUs());
  }
  void OnDeviceFaults(CordonDevices command);
  void OnReclaimed(const std::string& worker_id, FinishReclaims command);
  void OnTaskEvent(const std::string& worker_id, const liger::worker::v1::TaskEvent& event);
  void Tick();

 private:
  int64_t NowUs() const { return absl::ToUnixMicros(options_.clock->Now()); }
  // For intervals: the wall clock may be set back.
  int64_t SteadyUs() const { return absl::ToInt64Microseconds(options_.clock->Elapsed()); }
  static std::string WorkerActor(const std::string& worker_id) {
    return absl::StrCat("worker:", worker_id);
  }

  // Applies a command that nobody would give again: until it is stored. What is
  // done instead of that when it may be out of date by then: `again`.
  template <typename C>
  void Insist(const std::string& actor, const C& command,
              std::function<void(const typename C::Result&)> then = {},
              std::function<void()> again = {});

  // A job of this spec that waits for a CHECK, and the workers.
  ScheduleSnapshot CheckSnapshot(const std::string& uid, const ResolvedSpec& resolved) const;
  // INVALID_ARGUMENT when the weights or data are known to be on no worker.
  absl::Status CheckPresence(const ResolvedSpec& resolved) const;
  // For a spec that cannot be resolved now: what the request gave before, or `error`.
  void AnswerEarlier(const SubmitRequest& request, const absl::Status& error, SubmitDone done);
  void Create(SubmitRequest request, ResolvedSpec resolved, SubmitDone done);
  SubmitDone WithStoredChecks(const SubmitRequest& request, const ResolvedSpec& resolved,
                              SubmitDone done);
  SubmitResult DryRunResult(const SubmitRequest& request, const ResolvedSpec& resolved) const;
  // One that waits for a look at its name, or for a CHECK slot, until then at the latest.
  struct WaitingDryRun {
    std::string id;
    ResolvedSpec resolved;
    SubmitResult result;
    SubmitDone done;
    int64_t until_us = 0;     // steady
    bool name_known = false;  // whether another job has it
  };
  void LookAtName(WaitingDryRun run, const std::string& request_id) ABSL_LOCKS_EXCLUDED(mutex_);
  // nullopt: it was given up, or has begun.
  std::optional<WaitingDryRun> TakeWaiting(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  void StartDryRun(WaitingDryRun run) ABSL_LOCKS_EXCLUDED(mutex_);
  void RetryDryRuns() ABSL_LOCKS_EXCLUDED(mutex_);
  // Gives the run a worker with a free CHECK slot, or says why there is none; `busy`
  // when others' checks have them all.
  std::string PlaceDryRun(const std::string& id, const ResolvedSpec& resolved, SubmitResult* result,
                          const SubmitDone& done, bool* busy);

  void Report(ReportTask report);
  void OnReported(const ReportTask& report, const absl::StatusOr<ReportTask::Result>& result);
  // Asks the worker to remove what a new checkpoint leaves no room for.
  void SendReclaims(const std::string& worker_id);
  void StopTasks(const std::vector<TaskStop>& stops, const std::string& reason);
  void PauseTasks(const std::vector<TaskStop>& pauses);
  void StartAgain(const std::string& worker_id, const liger::trainer::v1::Ref& ref);
  void Reconnect(const std::string& worker_id, const std::string& reason);
  bool IsConnected(const std::string& worker_id);
  void OnCompared(const std::string& worker_id, const TaskDifferences& differences);
  // The worker's inventory as it is known now, until it is stored.
  void StoreInventory(const std::string& worker_id) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnInventoryStored(const std::string& worker_id, const absl::Status& status)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void RetryUnstored();
  void FlushReports(int64_t now);
  void EndOverdueCancels(int64_t now);
  // Of a gang that is broken: when it ends, whatever is still to be told.
  void SettleAfter(const std::string& job_uid, int64_t epoch) ABSL_LOCKS_EXCLUDED(mutex_);
  void SettleOverdueGangs(int64_t now);
  void ExpireOldRows(int64_t now);

  Store& store_;
  const Catalog& catalog_;
  const std::shared_ptr<ServiceState> state_;
  const JobServiceOptions& options_ = state_->options;
  FleetGate& fleet_ = state_->fleet;
  WorkerDirectory& workers_ = state_->workers;
  DryRuns& dry_runs_ = state_->dry_runs;
  Looks& looks_ = state_->looks;
  const std::shared_ptr<ScheduleLoop> loop_;
  TaskAudit audit_;

  // Held while a dry run is placed, so that two do not take one slot.
  absl::Mutex placing_mutex_;

  absl::Mutex mutex_;
  ReportBuffer buffer_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, WaitingDryRun> waiting_dry_runs_ ABSL_GUARDED_BY(mutex_);
  // What Insist has to apply again.
  std::vector<std::function<void()>> unstored_ ABSL_GUARDED_BY(mutex_);
  // Workers whose inventory is being stored, or waits for it in unstored_; true
  // when a newer list has come since the store was given one.
  std::map<std::string, bool> storing_inventory_ ABSL_GUARDED_BY(mutex_);
  int64_t last_flush_us_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t last_expiry_us_ ABSL_GUARDED_BY(mutex_) = 0;
  // When a CANCELLING job ends whatever its worker does, by {uid, epoch}.
  std::map<std::pair<std::string, int64_t>, int64_t> cancel_deadlines_ ABSL_GUARDED_BY(mutex_);
  // When a gang that is broken ends whatever its workers do, by {uid, epoch}.
  std::map<std::pair<std::string, int64_t>, int64_t> gang_deadlines_ ABSL_GUARDED_BY(mutex_);
  // Faults of devices that the store was told of, by worker and device.
  std::map<std::string, std::map<std::string, std::string>> device_faults_ ABSL_GUARDED_BY(mutex_);
};

// ---- implementation of the template

template <typename C>
void JobService::Impl::Insist(const std::string& actor, const C& command,
                              std::function<void(const typename C::Result&)> then,
                              std::function<void()> again) {
  // Called by the service itself, which it must not keep alive.
  if (!again) {
    again = [this, actor, command, then] { Insist(actor, command, then); };
  }
  store_.Apply<C>(NowUs(), actor, command,
                  [self = shared_from_this(), then = std::move(then),
                   again = std::move(again)](absl::StatusOr<typename C::Result> result) {
                    if (IsStorageError(result.status())) {
                      absl::MutexLock lock(&self->mutex_);
                      self->unstored_.push_back(again);
                      return;
                    }
                    if (result.ok() && then) then(*result);
                    self->loop_->Request();
                  });
}

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_JOB_SERVICE_IMPL_H_
