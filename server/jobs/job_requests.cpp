// What users ask.

#include <set>
#include <utility>

#include "common/file.h"
#include "common/spec/dropped_rows.h"
#include "common/spec/spec.h"
#include "common/spec/violations.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/errors/errors.h"
#include "server/jobs/job_service_impl.h"
#include "server/store/outputs.h"

namespace liger::server {
namespace {

constexpr int64_t kRequestLifetimeUs = 7 * 24 * 3600 * kSecondUs;
// A worker that has just said Hello may still be looking at its disks.
constexpr int64_t kInventorySettleUs = 5 * kSecondUs;
constexpr int kNameSuffixLength = 6;
// For a scan of roots on a slow network file system.
constexpr int64_t kLookPatienceUs = 10 * kSecondUs;
// How long a dry run waits for other checks to end.
constexpr int64_t kDryRunPatienceUs = 5 * kSecondUs;

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

// What a check counted of the rows that the user should know of.
std::vector<std::string> RowNotices(const liger::trainer::v1::CheckResult& check,
                                    const liger::v1::JobSpec& spec) {
  std::vector<std::string> notices;
  const auto eval = check.stats().find("eval_rows");
  const int64_t eval_rows = eval == check.stats().end() ? 0 : eval->second;
  for (const std::string prefix : {"", "eval_"}) {
    const auto count = [&](const char* name) -> int64_t {
      const auto it = check.stats().find(prefix + name);
      return it == check.stats().end() ? 0 : it->second;
    };
    const std::string rows =
        absl::StrCat(" of ", count("rows"), prefix.empty() ? " training" : " evaluation", " rows ");
    if (count("equal_pairs") > 0) {
      notices.push_back(absl::StrCat("warning: in ", count("equal_pairs"), rows,
                                     "chosen and rejected are the same tokens"));
    }
    if (count("dropped_rows") > 0) {
      notices.push_back(absl::StrCat(
          "warning: ", count("dropped_rows"), rows, "are dropped: ",
          DroppedRowsCause(spec.training().max_length(), spec.sft().response_template()), ". ",
          kKeepDroppedRows));
    }
    if (count("unread_rows") > 0) {
      // Of the training files' rows some may be for evaluation.
      const bool share = prefix.empty() && spec.dataset().eval_fraction() > 0;
      const int64_t read = count("rows") + (share ? eval_rows : 0);
      notices.push_back(absl::StrCat(
          "note: the check had time for the first ", read, " of about ", read + count("unread_rows"),
          prefix.empty() ? " training" : " evaluation",
          " rows; the job itself begins with a check of all"));
    }
    if (count("truncated_rows") > 0) {
      notices.push_back(absl::StrCat("warning: ", count("truncated_rows"), rows,
                                     "are cut to training.max_length (",
                                     spec.training().max_length(), ")"));
    }
    if (count("one_label_rows") > 0) {
      notices.push_back(absl::StrCat("warning: all of the first ", count("one_label_rows"),
                                     " rows have one label; kto needs rows of both"));
    }
  }
  return notices;
}

}  // namespace

absl::StatusOr<ResolvedSpec> JobService::Impl::Resolve(const liger::v1::JobSpec& spec) const {
  absl::StatusOr<ResolvedSpec> resolved =
      ResolveSpec(spec, catalog_, workers_.Workers(), RandomSuffix(kNameSuffixLength));
  if (!resolved.ok()) return resolved;
  const absl::Status present = CheckPresence(*resolved);
  if (!present.ok()) return present;
  return resolved;
}

ScheduleSnapshot JobService::Impl::CheckSnapshot(const std::string& uid,
                                                 const ResolvedSpec& resolved) const {
  ScheduleSnapshot snapshot;
  JobRow& job = snapshot.jobs.emplace_back();
  job.uid = uid;
  job.state = liger::v1::JobStatus::VALIDATING;
  job.resolved_spec = resolved.spec;
  snapshot.workers = workers_.Workers();
  snapshot.catalog_uris = catalog_.uris();
  return snapshot;
}

absl::Status JobService::Impl::CheckPresence(const ResolvedSpec& resolved) const {
  if (!workers_.InventoryIsKnown(NowUs(), kInventorySettleUs)) return absl::OkStatus();
  for (const WaitDecision& wait : Schedule(CheckSnapshot("", resolved)).waits) {
    const bool model = wait.reason == "ModelAbsent";
    if (!model && wait.reason != "DatasetAbsent") continue;
    return InvalidArgument(model ? "model.name" : "dataset.name",
                           WithAction(wait.message, wait.action));
  }
  return absl::OkStatus();
}

void JobService::Impl::Submit(SubmitRequest request, SubmitDone done) {
  absl::StatusOr<ResolvedSpec> resolved = Resolve(request.spec);
  if (resolved.ok()) return Create(std::move(request), *std::move(resolved), std::move(done));
  // What a retry says stays the same, whatever became of the fleet (I2).
  if (request.request_id.empty()) return done(resolved.status());
  AnswerEarlier(request, resolved.status(), std::move(done));
}

void JobService::Impl::AnswerEarlier(const SubmitRequest& request, const absl::Status& error,
                                     SubmitDone done) {
  store_.Read<SubmitResult>(
      [tenant = request.tenant, id = request.request_id, hash = BodyHash(request.spec),
       now = NowUs(), error](const ReadView& view) -> absl::StatusOr<SubmitResult> {
        const absl::StatusOr<std::optional<JobRow>> earlier =
            EarlierJob(view, tenant, id, hash, now);
        if (!earlier.ok()) return earlier.status();
        if (!earlier->has_value()) return error;
        return SubmitResult{.job = ToProto(view, **earlier)};
      },
      std::move(done));
}

void JobService::Impl::Create(SubmitRequest request, ResolvedSpec resolved, SubmitDone done) {
  CreateJob command;
  command.job.uid = options_.new_id();
  command.job.tenant = request.tenant;
  command.job.name = resolved.spec.name();
  command.job.method = MethodName(resolved.spec);
  command.job.model = request.spec.model().name().empty() ? request.spec.model().uri()
                                                          : request.spec.model().name();
  command.job.spec = request.spec;
  command.job.resolved_spec = resolved.spec;
  command.job.spec_hash = resolved.hash;
  command.job.hash_version = kSpecHashVersion;
  command.request_id = request.request_id;
  command.body_hash = BodyHash(request.spec);
  command.request_expires_us = NowUs() + kRequestLifetimeUs;
  store_.Apply<CreateJob>(NowUs(), request.actor, std::move(command),
                          [self = shared_from_this(), notices = std::move(resolved.notices),
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

// What CreateJob would refuse by what is stored, after the checks elsewhere.
JobService::SubmitDone JobService::Impl::WithStoredChecks(const SubmitRequest& request,
                                                          const ResolvedSpec& resolved,
                                                          SubmitDone done) {
  JobRow job;
  job.tenant = request.tenant;
  job.name = resolved.spec.name();
  job.resolved_spec = resolved.spec;
  job.output = OutputPath(resolved.spec.output().uri());
  return [self = shared_from_this(), job = std::move(job),
          done = std::move(done)](absl::StatusOr<SubmitResult> checked) {
    if (!checked.ok()) return done(checked.status());
    self->store_.Read<SubmitResult>(
        [job, result = *std::move(checked)](const ReadView& view) -> absl::StatusOr<SubmitResult> {
          const absl::Status admissible = CheckNewJob(view, job);
          if (!admissible.ok()) return admissible;
          return result;
        },
        done);
  };
}

std::function<void()> JobService::Impl::Validate(SubmitRequest request, SubmitDone done) {
  absl::StatusOr<ResolvedSpec> resolved = Resolve(request.spec);
  if (!resolved.ok()) {
    done(resolved.status());
    return [] {};
  }
  done = WithStoredChecks(request, *resolved, std::move(done));
  const std::string id = absl::StrCat("dry-run-", options_.new_id());
  SubmitResult result = DryRunResult(request, *resolved);
  StartDryRun({id, *std::move(resolved), std::move(result), std::move(done),
               NowUs() + kDryRunPatienceUs});
  return [self = shared_from_this(), id] {
    const absl::Status gone = absl::CancelledError("the client went away");
    std::optional<WaitingDryRun> waiting;
    {
      absl::MutexLock lock(&self->mutex_);
      if (auto node = self->waiting_dry_runs_.extract(id)) waiting = std::move(node.mapped());
    }
    if (waiting.has_value()) waiting->done(gone);
    const std::string worker_id = self->dry_runs_.Fail(id, gone);
    if (!worker_id.empty()) self->StopTasks({{worker_id, DryRuns::RefOf(id)}}, "CANCELLED");
    self->loop_->Request();  // its slot is free
  };
}

void JobService::Impl::StartDryRun(WaitingDryRun run) {
  bool busy = false;
  SubmitResult result = run.result;
  TaskStart start;
  start.worker_id = PlaceDryRun(run.id, run.resolved, &result, run.done, &busy);
  if (start.worker_id.empty()) {
    if (busy && NowUs() < run.until_us) {
      const std::string id = run.id;
      absl::MutexLock lock(&mutex_);
      waiting_dry_runs_.insert_or_assign(id, std::move(run));
      return;
    }
    result.checks_skipped = {"model", "data"};
    return run.done(std::move(result));
  }
  start.ref = DryRuns::RefOf(run.id);
  start.kind = liger::trainer::v1::TASK_KIND_CHECK;
  start.gang.set_nnodes(1);
  start.gang.set_world_size(1);
  start.resolved_spec = run.resolved.spec;
  start.spec_hash = run.resolved.hash;
  start.check_max_rows = options_.validate_max_rows;
  start.check_seconds = options_.validate_row_seconds;
  fleet_.Call([&start](FleetPort& fleet) { fleet.StartGang({start}); });
}

void JobService::Impl::RetryDryRuns() {
  std::map<std::string, WaitingDryRun> waiting;
  {
    absl::MutexLock lock(&mutex_);
    waiting.swap(waiting_dry_runs_);
  }
  for (auto& [id, run] : waiting) StartDryRun(std::move(run));
}

std::string JobService::Impl::PlaceDryRun(const std::string& id, const ResolvedSpec& resolved,
                                          SubmitResult* result, const SubmitDone& done,
                                          bool* busy) {
  absl::MutexLock lock(&placing_mutex_);
  ScheduleSnapshot snapshot = CheckSnapshot(id, resolved);
  snapshot.running_checks = dry_runs_.Running();
  const std::vector<TaskRow> checks = loop_->RunningChecks();
  snapshot.running_checks.insert(snapshot.running_checks.end(), checks.begin(), checks.end());
  snapshot.unavailable = Unavailable(snapshot.workers, &fleet_);
  const ScheduleDecisions decisions = Schedule(snapshot);
  for (const WaitDecision& wait : decisions.waits) {
    *busy |= wait.reason == "CheckSlotsBusy";
    result->notices.push_back(absl::StrCat("not checked on a worker: ", wait.message));
  }
  if (decisions.checks.empty()) return "";
  const int64_t deadline =
      NowUs() + static_cast<int64_t>(options_.validate_timeout_seconds * kSecondUs);
  dry_runs_.Add(
      id, decisions.checks[0].worker_id, deadline,
      [result = *result, done](absl::StatusOr<liger::trainer::v1::CheckResult> check) mutable {
        if (!check.ok()) return done(check.status());
        if (check->violations_size() > 0) {
          return done(InvalidArgument({check->violations().begin(), check->violations().end()}));
        }
        for (const std::string& ran : check->checks_run()) {
          if (ran != "spec") result.checks_run.push_back(ran);  // here as well
        }
        const std::vector<std::string> notices = RowNotices(*check, result.job.resolved_spec());
        result.notices.insert(result.notices.end(), notices.begin(), notices.end());
        result.checks_skipped = {check->checks_skipped().begin(), check->checks_skipped().end()};
        done(std::move(result));
      });
  return decisions.checks[0].worker_id;
}

void JobService::Impl::Look(JobService::LookDone done) {
  std::set<std::string> workers;
  fleet_.Call([&](FleetPort& fleet) {
    for (const WorkerRow& worker : workers_.Workers()) {
      if (fleet.IsConnected(worker.worker_id)) workers.insert(worker.worker_id);
    }
  });
  const int64_t now = NowUs();
  const int64_t id = looks_.Add(
      workers, now, now + kLookPatienceUs,
      [self = shared_from_this(), workers,
       done = std::move(done)](const std::set<std::string>& answered) {
        std::vector<WorkerRow> asked = self->workers_.Workers();
        std::erase_if(asked,
                      [&](const WorkerRow& row) { return !workers.contains(row.worker_id); });
        done(std::move(asked), answered);
      });
  fleet_.Call([&](FleetPort& fleet) {
    for (const std::string& worker : workers) fleet.Look(worker, id);
  });
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
                  static_cast<int64_t>(self->options_.cancel_deadline_seconds * kSecondUs));
        }
        self->StopTasks(result->stops, "CANCELLED");
        done(std::move(result->job));
        self->loop_->Request();
      });
}

void JobService::Impl::Pause(PauseJob command, const std::string& actor, JobDone done) {
  store_.Apply<PauseJob>(NowUs(), actor, std::move(command),
                         [self = shared_from_this(),
                          done = std::move(done)](absl::StatusOr<PauseJob::Result> result) {
                           if (!result.ok()) return done(result.status());
                           self->PauseTasks(result->pauses);
                           done(std::move(result->job));
                           self->loop_->Request();
                         });
}

void JobService::Impl::Resume(ResumeJob command, const std::string& actor, JobDone done) {
  store_.Apply<ResumeJob>(NowUs(), actor, std::move(command),
                          [self = shared_from_this(),
                           done = std::move(done)](absl::StatusOr<ResumeJob::Result> result) {
                            if (!result.ok()) return done(result.status());
                            done(std::move(result->job));
                            self->loop_->Request();
                          });
}

// A worker that is away is asked after its next Hello.
void JobService::Impl::Reclaim(const std::vector<ReclaimRow>& outputs) {
  for (const ReclaimRow& output : outputs) {
    fleet_.Call([&output](FleetPort& fleet) { fleet.Reclaim(output.worker_id, {output}); });
  }
}

void JobService::Impl::Delete(DeleteJob command, const std::string& actor,
                              std::function<void(absl::StatusOr<DeleteJob::Result>)> done) {
  store_.Apply<DeleteJob>(NowUs(), actor, std::move(command),
                          [self = shared_from_this(),
                           done = std::move(done)](absl::StatusOr<DeleteJob::Result> result) {
                            if (result.ok()) self->Reclaim(result->reclaims);
                            done(std::move(result));
                          });
}

}  // namespace liger::server
