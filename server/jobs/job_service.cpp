#include "server/jobs/job_service.h"

#include <utility>

#include "server/jobs/job_service_impl.h"
#include "server/store/exits.h"

namespace liger::server {
namespace {

constexpr int64_t kExpireIntervalUs = 3600 * kSecondUs;

}  // namespace

absl::Status JobService::Impl::Start(FleetPort* fleet) {
  struct Loaded {
    std::vector<WorkerRow> workers;
    std::vector<JobRow> jobs;
    std::vector<std::pair<std::string, int64_t>> broken;  // gangs, by uid and epoch
  };
  absl::StatusOr<Loaded> loaded =
      store_.ReadAndWait<Loaded>([](const ReadView& view) -> absl::StatusOr<Loaded> {
        Loaded all{view.Workers(), view.ActiveJobs(), {}};
        for (const JobRow& job : all.jobs) {
          if (HasLiveAttempt(job.state) && IsBroken(view.Members(job.uid, job.epoch))) {
            all.broken.emplace_back(job.uid, job.epoch);
          }
        }
        return all;
      });
  if (!loaded.ok()) return loaded.status();
  for (WorkerRow& worker : loaded->workers) workers_.Load(std::move(worker));
  {
    absl::MutexLock lock(&mutex_);
    const int64_t deadline =
        SteadyUs() + static_cast<int64_t>(options_.cancel_deadline_seconds * kSecondUs);
    for (const JobRow& job : loaded->jobs) {
      if (job.state != liger::v1::JobStatus::CANCELLING) continue;
      cancel_deadlines_[{job.uid, job.epoch}] = deadline;
    }
  }
  for (const auto& [uid, epoch] : loaded->broken) SettleAfter(uid, epoch);
  fleet_.Open(fleet);
  loop_->Request();
  return absl::OkStatus();
}

void JobService::Impl::Stop() {
  fleet_.Close();
  const absl::Status stopping =
      absl::UnavailableError("the coordinator is stopping; try again");
  dry_runs_.FailAll(stopping);
  looks_.EndAll();
  std::map<std::string, WaitingDryRun> waiting;
  {
    absl::MutexLock lock(&mutex_);
    waiting.swap(waiting_dry_runs_);
  }
  for (const auto& [id, run] : waiting) run.done(stopping);
}

// ---- time

void JobService::Impl::Tick() {
  const int64_t now = SteadyUs();
  RetryUnstored();
  FlushReports(now);
  EndOverdueCancels(now);
  SettleOverdueGangs(now);
  for (const auto& [worker_id, ref] : dry_runs_.Expire(now)) {
    StopTasks({{worker_id, ref}}, "TIMED_OUT");
  }
  looks_.Expire(now);
  RetryDryRuns();
  ExpireOldRows(now);
  loop_->Tick();
}

void JobService::Impl::RetryUnstored() {
  std::vector<std::function<void()>> unstored;
  {
    absl::MutexLock lock(&mutex_);
    unstored.swap(unstored_);
  }
  for (const auto& apply : unstored) apply();
}

void JobService::Impl::FlushReports(int64_t now) {
  std::vector<ReportTask> reports;
  {
    absl::MutexLock lock(&mutex_);
    if (now - last_flush_us_ < options_.progress_interval_seconds * kSecondUs) return;
    last_flush_us_ = now;
    reports = buffer_.Flush();
  }
  for (ReportTask& report : reports) Report(std::move(report));
}

void JobService::Impl::EndOverdueCancels(int64_t now) {
  std::vector<ForceCancel> overdue;
  {
    absl::MutexLock lock(&mutex_);
    std::erase_if(cancel_deadlines_, [&](const auto& entry) {
      if (entry.second > now) return false;
      overdue.push_back({entry.first.first, entry.first.second});
      return true;
    });
  }
  for (const ForceCancel& command : overdue) Insist("system", command);
}

void JobService::Impl::SettleAfter(const std::string& job_uid, int64_t epoch) {
  absl::MutexLock lock(&mutex_);
  // A second failure does not move it.
  gang_deadlines_.try_emplace(
      {job_uid, epoch},
      SteadyUs() + static_cast<int64_t>(options_.gang_settle_seconds * kSecondUs));
}

void JobService::Impl::SettleOverdueGangs(int64_t now) {
  std::vector<SettleGang> overdue;
  {
    absl::MutexLock lock(&mutex_);
    std::erase_if(gang_deadlines_, [&](const auto& entry) {
      if (entry.second > now) return false;
      overdue.push_back({entry.first.first, entry.first.second, options_.max_restarts});
      return true;
    });
  }
  for (const SettleGang& command : overdue) Insist("system", command);
}

void JobService::Impl::ExpireOldRows(int64_t now) {
  {
    absl::MutexLock lock(&mutex_);
    if (now - last_expiry_us_ < kExpireIntervalUs) return;
    last_expiry_us_ = now;
  }
  const int64_t today = NowUs();
  ExpireRows command;
  command.drop_metrics_before_us =
      today - static_cast<int64_t>(options_.metrics_retention_seconds * kSecondUs);
  store_.Apply<ExpireRows>(today, "system", command,
                           [self = shared_from_this()](absl::StatusOr<ExpireRows::Result> result) {
                             if (!result.ok() || result->log_files.empty()) return;
                             if (self->options_.remove_log_files)
                               self->options_.remove_log_files(result->log_files);
                           });
}

// ---- facade

JobService::JobService(Store* store, const Catalog* catalog, JobServiceOptions options)
    : impl_(std::make_shared<Impl>(store, catalog, std::move(options))) {}
JobService::~JobService() { Stop(); }

absl::Status JobService::Start(FleetPort* fleet) { return impl_->Start(fleet); }
void JobService::Stop() { impl_->Stop(); }

void JobService::Submit(SubmitRequest request, SubmitDone done) {
  impl_->Submit(std::move(request), std::move(done));
}
std::function<void()> JobService::Validate(SubmitRequest request, SubmitDone done) {
  return impl_->Validate(std::move(request), std::move(done));
}
absl::StatusOr<ResolvedSpec> JobService::Resolve(const liger::v1::JobSpec& spec) const {
  return impl_->Resolve(spec);
}
void JobService::Look(LookDone done) { impl_->Look(std::move(done)); }
void JobService::Reclaim(const std::vector<ReclaimRow>& outputs) { impl_->Reclaim(outputs); }
void JobService::Cancel(const std::string& tenant, const std::string& actor, const std::string& job,
                        const std::string& reason, JobDone done) {
  impl_->Cancel({tenant, job, reason}, actor, std::move(done));
}
void JobService::Pause(const std::string& tenant, const std::string& actor, const std::string& job,
                       const std::string& reason, JobDone done) {
  impl_->Pause({tenant, job, reason}, actor, std::move(done));
}
void JobService::Resume(const std::string& tenant, const std::string& actor, const std::string& job,
                        JobDone done) {
  impl_->Resume({tenant, job}, actor, std::move(done));
}
void JobService::Delete(const std::string& tenant, const std::string& actor, const std::string& job,
                        bool delete_output,
                        std::function<void(absl::StatusOr<DeleteJob::Result>)> done) {
  impl_->Delete({tenant, job, delete_output}, actor, std::move(done));
}
void JobService::OnHello(const liger::worker::v1::Hello& hello,
                         std::function<void(absl::StatusOr<HelloAnswer>)> done) {
  impl_->OnHello(hello, std::move(done));
}
void JobService::OnHeartbeat(const std::string& worker_id,
                             std::vector<liger::trainer::v1::Ref> tasks) {
  impl_->OnHeartbeat(worker_id, std::move(tasks));
}

void JobService::OnInventory(const std::string& worker_id, int64_t incarnation,
                             std::vector<liger::worker::v1::InventoryItem> inventory) {
  impl_->OnInventory({worker_id, incarnation, std::move(inventory)});
}
void JobService::OnLooked(const std::string& worker_id, int64_t id) {
  impl_->OnLooked(worker_id, id);
}
void JobService::OnWorkerLost(const std::string& worker_id, int64_t incarnation) {
  impl_->OnWorkerLost({worker_id, incarnation});
}
void JobService::OnTaskRefused(const std::string& worker_id, const liger::trainer::v1::Ref& ref,
                               const std::string& reason, bool others_run) {
  impl_->OnTaskRefused(worker_id, ref, reason, others_run);
}
void JobService::OnFitness(const std::string& worker_id, const std::string& unfit) {
  impl_->OnFitness(worker_id, unfit);
}
void JobService::OnWorkerRefused(const std::string& worker_id, const liger::trainer::v1::Ref& ref,
                                 const std::string& reason) {
  impl_->OnWorkerRefused(worker_id, ref, reason);
}
std::map<std::string, std::string> JobService::RestingWorkers() const {
  return impl_->RestingWorkers();
}
void JobService::OnDeviceFaults(const std::string& worker_id, int64_t incarnation,
                                std::vector<liger::worker::v1::DeviceFault> faults) {
  impl_->OnDeviceFaults({worker_id, incarnation, std::move(faults)});
}
void JobService::OnReclaimed(const std::string& worker_id, std::vector<ReclaimRow> outputs) {
  impl_->OnReclaimed(worker_id, {std::move(outputs)});
}
void JobService::OnTaskEvent(const std::string& worker_id,
                             const liger::worker::v1::TaskEvent& event) {
  impl_->OnTaskEvent(worker_id, event);
}
void JobService::Tick() { impl_->Tick(); }

}  // namespace liger::server
