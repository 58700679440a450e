#include "server/jobs/job_service.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/file.h"
#include "common/spec/spec.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/errors/errors.h"
#include "server/jobs/dry_runs.h"
#include "server/jobs/report_buffer.h"
#include "server/jobs/schedule_loop.h"
#include "server/jobs/spec_resolver.h"
#include "server/jobs/task_starts.h"

namespace liger::server {
namespace {

using liger::trainer::v1::Ref;
using liger::worker::v1::Hello;
using liger::worker::v1::TaskEvent;
using liger::worker::v1::Verdict;

constexpr int64_t kSecond = 1000000;
constexpr int64_t kRequestLifetimeUs = 7 * 24 * 3600 * kSecond;
constexpr int64_t kExpireIntervalUs = 3600 * kSecond;
// A worker that has just said Hello may still be looking at its disks.
constexpr int64_t kInventorySettleUs = 5 * kSecond;
constexpr int kNameSuffixLength = 6;

std::string WorkerActor(const std::string& worker_id) { return absl::StrCat("worker:", worker_id); }

std::string BodyHash(const liger::v1::JobSpec& spec) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    spec.SerializeToCodedStream(&coded);
  }
  return Sha256(bytes);
}

}  // namespace

// Held by every callback under way, so that none outlives it.
class JobService::Impl : public std::enable_shared_from_this<JobService::Impl> {
 public:
  Impl(Store* store, const Catalog* catalog, JobServiceOptions options)
      : store_(*store),
        catalog_(*catalog),
        state_(std::make_shared<ServiceState>(std::move(options))),
        loop_(std::make_shared<ScheduleLoop>(store, catalog, state_)),
        buffer_(options_.max_restarts) {}

  absl::Status Start(FleetPort* fleet);
  void Stop() {
    fleet_.Close();
    dry_runs_.FailAll(absl::UnavailableError("the coordinator is stopping"));
  }

  void Submit(SubmitRequest request, SubmitDone done);
  void Validate(SubmitRequest request, SubmitDone done);
  void Cancel(CancelJob command, const std::string& actor, JobDone done);
  void Delete(DeleteJob command, const std::string& actor, bool delete_output,
              std::function<void(absl::StatusOr<DeleteJob::Result>)> done);
  void OnHello(const Hello& hello, std::function<void(absl::StatusOr<HelloAnswer>)> done);
  void OnInventory(UpdateInventory command);
  void OnWorkerLost(LoseWorker command);
  void OnTaskRefused(const std::string& worker_id, const Ref& ref, const std::string& reason);
  void OnTaskEvent(const std::string& worker_id, const TaskEvent& event);
  void Tick();

 private:
  int64_t NowUs() const { return absl::ToUnixMicros(options_.clock->Now()); }
  absl::StatusOr<ResolvedSpec> Resolve(const liger::v1::JobSpec& spec) const {
    return ResolveSpec(spec, catalog_, workers_.Workers(), RandomSuffix(kNameSuffixLength));
  }
  // What the scheduler would do with a job of this spec that waits for a CHECK.
  ScheduleDecisions DecideCheck(const std::string& uid, const ResolvedSpec& resolved) const;
  // INVALID_ARGUMENT when the weights or data are known to be on no worker.
  absl::Status CheckPresence(const ScheduleDecisions& decisions) const;
  SubmitResult DryRunResult(const SubmitRequest& request, const ResolvedSpec& resolved) const;

  void Report(ReportTask report);
  void OnReported(const ReportTask& report, const absl::StatusOr<ReportTask::Result>& result);
  void StopTasks(const std::vector<TaskStop>& stops, const std::string& reason);
  void StartAgain(const std::string& worker_id, const Ref& ref);
  void FlushReports(int64_t now);
  void EndOverdueCancels(int64_t now);
  void ExpireOldRows(int64_t now);

  Store& store_;
  const Catalog& catalog_;
  const std::shared_ptr<ServiceState> state_;
  const JobServiceOptions& options_ = state_->options;
  FleetGate& fleet_ = state_->fleet;
  WorkerDirectory& workers_ = state_->workers;
  DryRuns dry_runs_;
  const std::shared_ptr<ScheduleLoop> loop_;

  absl::Mutex mutex_;
  ReportBuffer buffer_ ABSL_GUARDED_BY(mutex_);
  int64_t last_flush_us_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t last_expiry_us_ ABSL_GUARDED_BY(mutex_) = 0;
  // When a CANCELLING job ends whatever its worker does, by {uid, epoch}.
  std::map<std::pair<std::string, int64_t>, int64_t> cancel_deadlines_ ABSL_GUARDED_BY(mutex_);
};

absl::Status JobService::Impl::Start(FleetPort* fleet) {
  struct Loaded {
    std::vector<WorkerRow> workers;
    std::vector<JobRow> jobs;
  };
  absl::StatusOr<Loaded> loaded =
      store_.ReadAndWait<Loaded>([](const ReadView& view) -> absl::StatusOr<Loaded> {
        return Loaded{view.Workers(), view.ActiveJobs()};
      });
  if (!loaded.ok()) return loaded.status();
  for (WorkerRow& worker : loaded->workers) workers_.Load(std::move(worker));
  {
    absl::MutexLock lock(&mutex_);
    const int64_t deadline =
        NowUs() + static_cast<int64_t>(options_.cancel_deadline_seconds * kSecond);
    for (const JobRow& job : loaded->jobs) {
      if (job.state != liger::v1::JobStatus::CANCELLING) continue;
      cancel_deadlines_[{job.uid, job.epoch}] = deadline;
    }
  }
  fleet_.Open(fleet);
  loop_->Request();
  return absl::OkStatus();
}

// ---- submit

ScheduleDecisions JobService::Impl::DecideCheck(const std::string& uid,
                                                const ResolvedSpec& resolved) const {
  ScheduleSnapshot snapshot;
  JobRow& job = snapshot.jobs.emplace_back();
  job.uid = uid;
  job.state = liger::v1::JobStatus::VALIDATING;
  job.resolved_spec = resolved.spec;
  snapshot.workers = workers_.Workers();
  snapshot.catalog_uris = catalog_.uris();
  return Schedule(snapshot);
}

absl::Status JobService::Impl::CheckPresence(const ScheduleDecisions& decisions) const {
  if (!workers_.InventoryIsKnown(NowUs(), kInventorySettleUs)) return absl::OkStatus();
  for (const WaitDecision& wait : decisions.waits) {
    const bool model = wait.reason == "ModelAbsent";
    if (!model && wait.reason != "DatasetAbsent") continue;
    return InvalidArgument(model ? "model.name" : "dataset.name",
                           absl::StrCat(wait.message, "; ", wait.action));
  }
  return absl::OkStatus();
}

void JobService::Impl::Submit(SubmitRequest request, SubmitDone done) {
  absl::StatusOr<ResolvedSpec> resolved = Resolve(request.spec);
  if (!resolved.ok()) return done(resolved.status());
  const absl::Status present = CheckPresence(DecideCheck("", *resolved));
  if (!present.ok()) return done(present);

  CreateJob command;
  command.job.uid = options_.new_id();
  command.job.tenant = request.tenant;
  command.job.name = resolved->spec.name();
  command.job.method = MethodName(resolved->spec);
  command.job.model = request.spec.model().name().empty() ? request.spec.model().uri()
                                                          : request.spec.model().name();
  command.job.spec = request.spec;
  command.job.resolved_spec = resolved->spec;
  command.job.spec_hash = resolved->hash;
  command.job.hash_version = kSpecHashVersion;
  command.request_id = request.request_id;
  command.body_hash = BodyHash(request.spec);
  command.request_expires_us = NowUs() + kRequestLifetimeUs;
  store_.Apply<CreateJob>(NowUs(), request.actor, std::move(command),
                          [self = shared_from_this(), notices = std::move(resolved->notices),
                           done = std::move(done)](absl::StatusOr<CreateJob::Result> created) {
                            if (!created.ok()) return done(created.status());
                            SubmitResult result;
                            result.job = std::move(created->job);
                            result.notices = notices;
                            done(std::move(result));
                            self->loop_->Request();
                          });
}

JobService::SubmitResult JobService::Impl::DryRunResult(const SubmitRequest& request,
                                                        const ResolvedSpec& resolved) const {
  SubmitResult result;
  result.notices = resolved.notices;
  result.checks_run = {"spec", "catalog"};
  result.job.set_tenant(request.tenant);
  result.job.set_name(resolved.spec.name());
  *result.job.mutable_spec() = request.spec;
  *result.job.mutable_resolved_spec() = resolved.spec;
  result.job.set_spec_hash(resolved.hash);
  result.job.set_spec_hash_version(kSpecHashVersion);
  return result;
}

void JobService::Impl::Validate(SubmitRequest request, SubmitDone done) {
  absl::StatusOr<ResolvedSpec> resolved = Resolve(request.spec);
  if (!resolved.ok()) return done(resolved.status());
  const std::string id = absl::StrCat("dry-run-", options_.new_id());
  const ScheduleDecisions decisions = DecideCheck(id, *resolved);
  const absl::Status present = CheckPresence(decisions);
  if (!present.ok()) return done(present);
  SubmitResult result = DryRunResult(request, *resolved);
  if (decisions.checks.empty()) {
    for (const WaitDecision& wait : decisions.waits) {
      result.notices.push_back(absl::StrCat("not checked on a worker: ", wait.message));
    }
    result.checks_skipped = {"model", "data"};
    return done(std::move(result));
  }
  TaskStart start;
  start.worker_id = decisions.checks[0].worker_id;
  start.ref = DryRuns::RefOf(id);
  start.kind = liger::trainer::v1::TASK_KIND_CHECK;
  start.gang.set_nnodes(1);
  start.gang.set_world_size(1);
  start.resolved_spec = resolved->spec;
  start.spec_hash = resolved->hash;
  start.check_max_rows = options_.validate_max_rows;
  const int64_t deadline =
      NowUs() + static_cast<int64_t>(options_.validate_timeout_seconds * kSecond);
  dry_runs_.Add(
      id, start.worker_id, deadline,
      [result = std::move(result),
       done = std::move(done)](absl::StatusOr<liger::trainer::v1::CheckResult> check) mutable {
        if (!check.ok()) return done(check.status());
        if (check->violations_size() > 0) {
          return done(InvalidArgument({check->violations().begin(), check->violations().end()}));
        }
        for (const std::string& ran : check->checks_run()) {
          result.checks_run.push_back(ran);
        }
        result.checks_skipped = {check->checks_skipped().begin(), check->checks_skipped().end()};
        done(std::move(result));
      });
  fleet_.Call([&start](FleetPort& fleet) { fleet.StartTask(start); });
}

void JobService::Impl::Cancel(CancelJob command, const std::string& actor, JobDone done) {
  store_.Apply<CancelJob>(
      NowUs(), actor, std::move(command),
      [self = shared_from_this(),
       done = std::move(done)](absl::StatusOr<CancelJob::Result> result) {
        if (!result.ok()) return done(result.status());
        const liger::v1::JobStatus& status = result->job.status();
        if (status.state() == liger::v1::JobStatus::CANCELLING) {
          absl::MutexLock lock(&self->mutex_);
          // A second cancel does not move it.
          self->cancel_deadlines_.try_emplace(
              {result->job.uid(), status.epoch()},
              self->NowUs() +
                  static_cast<int64_t>(self->options_.cancel_deadline_seconds * kSecond));
        }
        self->StopTasks(result->stops, "CANCELLED");
        done(std::move(result->job));
        self->loop_->Request();
      });
}

void JobService::Impl::Delete(DeleteJob command, const std::string& actor, bool delete_output,
                              std::function<void(absl::StatusOr<DeleteJob::Result>)> done) {
  store_.Apply<DeleteJob>(
      NowUs(), actor, std::move(command),
      [self = shared_from_this(), delete_output,
       done = std::move(done)](absl::StatusOr<DeleteJob::Result> result) {
        std::map<std::string, std::vector<std::string>> uris;
        if (result.ok() && delete_output) {
          for (const ArtifactRow& artifact : result->artifacts) {
            uris[artifact.worker_id].push_back(artifact.uri);
          }
        }
        for (const auto& [worker_id, list] : uris) {
          self->fleet_.Call([&](FleetPort& fleet) { fleet.Reclaim(worker_id, list); });
        }
        done(std::move(result));
      });
}

// ---- workers

void JobService::Impl::OnHello(const Hello& hello,
                               std::function<void(absl::StatusOr<HelloAnswer>)> done) {
  {
    absl::MutexLock lock(&mutex_);
    buffer_.ForgetWorker(hello.worker_id());
  }
  auto reconciled = [self = shared_from_this(), hello,
                     done = std::move(done)](absl::StatusOr<ReconcileWorker::Result> result) {
    if (!result.ok()) return done(result.status());
    self->workers_.OnHello(hello, self->NowUs());
    HelloAnswer answer;
    answer.verdicts = std::move(result->verdicts);
    for (Verdict& verdict : answer.verdicts) {
      if (!DryRuns::IsDryRun(verdict.ref())) continue;
      if (!self->dry_runs_.Contains(verdict.ref().task_id())) continue;
      verdict.set_action(Verdict::ADOPT);
      verdict.set_ack_seq(0);
    }
    done(std::move(answer));
    for (const PublishAnswer& grant : result->grants) {
      self->fleet_.Call([&grant](FleetPort& fleet) { fleet.AnswerPublish(grant); });
    }
    for (const Ref& ref : result->restarts) self->StartAgain(hello.worker_id(), ref);
    self->StopTasks(result->stops, "GANG_BROKEN");
    self->loop_->Request();
  };
  store_.Apply<ReconcileWorker>(NowUs(), WorkerActor(hello.worker_id()),
                                {.hello = hello, .max_restarts = options_.max_restarts},
                                std::move(reconciled));
}

void JobService::Impl::StartAgain(const std::string& worker_id, const Ref& ref) {
  using Starts = std::vector<TaskStart>;
  store_.Read<Starts>(
      [ref](const ReadView& view) -> absl::StatusOr<Starts> {
        const std::optional<JobRow> job = view.Job(ref.job_uid());
        if (!job.has_value()) return Starts{};
        if (ref.epoch() == 0) {
          const std::optional<TaskRow> task = view.Task(ref.task_id());
          return task.has_value() ? Starts{CheckStart(*job, *task)} : Starts{};
        }
        const std::optional<AttemptRow> attempt = view.Attempt(job->uid, ref.epoch());
        if (!attempt.has_value() || IsOver(attempt->state)) return Starts{};
        return TrainStarts(*job, *attempt, view.Members(job->uid, ref.epoch()));
      },
      [self = shared_from_this(), worker_id](absl::StatusOr<Starts> starts) {
        if (!starts.ok()) return;
        for (const TaskStart& start : *starts) {
          if (start.worker_id != worker_id) continue;
          self->fleet_.Call([&start](FleetPort& fleet) { fleet.StartTask(start); });
        }
      });
}

void JobService::Impl::OnInventory(UpdateInventory command) {
  workers_.OnInventory(command.worker_id, command.incarnation, command.inventory);
  const std::string actor = WorkerActor(command.worker_id);
  store_.Apply<UpdateInventory>(
      NowUs(), actor, std::move(command),
      [self = shared_from_this()](absl::StatusOr<UpdateInventory::Result>) {
        self->loop_->Request();
      });
}

void JobService::Impl::OnWorkerLost(LoseWorker command) {
  command.max_restarts = options_.max_restarts;
  if (workers_.OnLost(command.worker_id, command.incarnation)) {
    dry_runs_.FailWorker(command.worker_id,
                         absl::UnavailableError(absl::StrCat("worker ", command.worker_id,
                                                             " was lost during the check")));
  }
  store_.Apply<LoseWorker>(NowUs(), "system", std::move(command),
                           [self = shared_from_this()](absl::StatusOr<LoseWorker::Result> result) {
                             if (result.ok()) self->StopTasks(result->stops, "GANG_BROKEN");
                             self->loop_->Request();
                           });
}

void JobService::Impl::OnTaskRefused(const std::string& worker_id, const Ref& ref,
                                     const std::string& reason) {
  const std::string detail = absl::StrCat("worker ", worker_id, " refused it: ", reason);
  if (DryRuns::IsDryRun(ref)) {
    return dry_runs_.Fail(ref.task_id(), absl::UnavailableError(detail));
  }
  loop_->Exclude(ref.job_uid(), worker_id);
  AbandonAttempt command{.worker_id = worker_id, .job_uid = ref.job_uid(), .epoch = ref.epoch()};
  command.detail = detail;
  command.task_id = ref.task_id();
  store_.Apply<AbandonAttempt>(NowUs(), WorkerActor(worker_id), std::move(command),
                               [self = shared_from_this()](absl::StatusOr<AbandonAttempt::Result>) {
                                 self->loop_->Request();
                               });
}

void JobService::Impl::StopTasks(const std::vector<TaskStop>& stops, const std::string& reason) {
  for (const TaskStop& stop : stops) {
    fleet_.Call(
        [&](FleetPort& fleet) { fleet.StopTask(stop, options_.stop_grace_seconds, reason); });
  }
}

// ---- events

void JobService::Impl::OnTaskEvent(const std::string& worker_id, const TaskEvent& event) {
  if (DryRuns::IsDryRun(event.ref())) {
    dry_runs_.OnEvent(event);
    return fleet_.Call(
        [&](FleetPort& fleet) { fleet.AckEvents(worker_id, event.ref(), event.seq()); });
  }
  ReportBuffer::Added added;
  {
    absl::MutexLock lock(&mutex_);
    added = buffer_.Add(worker_id, event);
  }
  // A repeated or misplaced event: the worker replays on its next session from
  // what was acknowledged, so nothing is lost.
  if (added.ready.has_value()) Report(*std::move(added.ready));
}

void JobService::Impl::Report(ReportTask report) {
  auto kept = std::make_shared<const ReportTask>(report);
  store_.Apply<ReportTask>(
      NowUs(), WorkerActor(kept->worker_id), std::move(report),
      [self = shared_from_this(), kept](absl::StatusOr<ReportTask::Result> result) {
        self->OnReported(*kept, result);
      });
}

void JobService::Impl::OnReported(const ReportTask& report,
                                  const absl::StatusOr<ReportTask::Result>& result) {
  if (absl::IsOutOfRange(result.status()) || absl::IsInternal(result.status())) {
    absl::MutexLock lock(&mutex_);
    return buffer_.ForgetTask(report.worker_id, report.ref);
  }
  if (!result.ok()) {
    absl::MutexLock lock(&mutex_);
    return buffer_.Return(report);
  }
  fleet_.Call([&](FleetPort& fleet) {
    fleet.AckEvents(report.worker_id, report.ref, result->acked_seq);
    if (result->publish.has_value()) fleet.AnswerPublish(*result->publish);
    if (result->stale) {
      fleet.StopTask({report.worker_id, report.ref}, options_.stop_grace_seconds, "STALE_EPOCH");
    }
  });
  if (report.exit.has_value()) {
    absl::MutexLock lock(&mutex_);
    buffer_.ForgetTask(report.worker_id, report.ref);
    cancel_deadlines_.erase({report.ref.job_uid(), report.ref.epoch()});
  }
  if (report.exit.has_value() || report.check_result.has_value()) loop_->Request();
}

// ---- time

void JobService::Impl::Tick() {
  const int64_t now = NowUs();
  FlushReports(now);
  EndOverdueCancels(now);
  for (const auto& [worker_id, ref] : dry_runs_.Expire(now)) {
    StopTasks({{worker_id, ref}}, "TIMED_OUT");
  }
  ExpireOldRows(now);
  loop_->Tick();
}

void JobService::Impl::FlushReports(int64_t now) {
  std::vector<ReportTask> reports;
  {
    absl::MutexLock lock(&mutex_);
    if (now - last_flush_us_ < options_.progress_interval_seconds * kSecond) return;
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
  for (ForceCancel& command : overdue) {
    store_.Apply<ForceCancel>(now, "system", std::move(command),
                              [self = shared_from_this()](absl::StatusOr<ForceCancel::Result>) {
                                self->loop_->Request();
                              });
  }
}

void JobService::Impl::ExpireOldRows(int64_t now) {
  {
    absl::MutexLock lock(&mutex_);
    if (now - last_expiry_us_ < kExpireIntervalUs) return;
    last_expiry_us_ = now;
  }
  ExpireRows command;
  command.drop_metrics_before_us =
      now - static_cast<int64_t>(options_.metrics_retention_seconds * kSecond);
  store_.Apply<ExpireRows>(now, "system", command,
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
void JobService::Validate(SubmitRequest request, SubmitDone done) {
  impl_->Validate(std::move(request), std::move(done));
}
void JobService::Cancel(const std::string& tenant, const std::string& actor, const std::string& job,
                        const std::string& reason, JobDone done) {
  impl_->Cancel({tenant, job, reason}, actor, std::move(done));
}
void JobService::Delete(const std::string& tenant, const std::string& actor, const std::string& job,
                        bool delete_output,
                        std::function<void(absl::StatusOr<DeleteJob::Result>)> done) {
  impl_->Delete({tenant, job}, actor, delete_output, std::move(done));
}
void JobService::OnHello(const Hello& hello,
                         std::function<void(absl::StatusOr<HelloAnswer>)> done) {
  impl_->OnHello(hello, std::move(done));
}
void JobService::OnInventory(const std::string& worker_id, int64_t incarnation,
                             std::vector<liger::worker::v1::InventoryItem> inventory) {
  impl_->OnInventory({worker_id, incarnation, std::move(inventory)});
}
void JobService::OnWorkerLost(const std::string& worker_id, int64_t incarnation) {
  impl_->OnWorkerLost({worker_id, incarnation});
}
void JobService::OnTaskRefused(const std::string& worker_id, const Ref& ref,
                               const std::string& reason) {
  impl_->OnTaskRefused(worker_id, ref, reason);
}
void JobService::OnTaskEvent(const std::string& worker_id, const TaskEvent& event) {
  impl_->OnTaskEvent(worker_id, event);
}
void JobService::Tick() { impl_->Tick(); }

}  // namespace liger::server
