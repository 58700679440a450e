// Jobs that users ask to be checked and not made.

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/spec/row_counts.h"
#include "common/spec/spec.h"
#include "common/spec/violations.h"
#include "server/errors/errors.h"
#include "server/jobs/job_service_impl.h"
#include "server/jobs/worker_fitness.h"
#include "server/scheduler/memory_fit.h"
#include "server/store/outputs.h"

namespace liger::server {
namespace {

// How long a dry run waits for other checks to end.
constexpr int64_t kDryRunPatienceUs = 5 * kSecondUs;
constexpr int kOutputSuffixLength = 12;  // of a place that nobody has

// Whether the user named the place, which else comes with the job's name.
bool HasOwnOutput(const liger::v1::JobSpec& given) { return !given.output().uri().empty(); }

// What the check found of the rows, and how far it came where it had no time for all.
void AddRowNotices(const liger::trainer::v1::CheckResult& check, const liger::v1::JobSpec& spec,
                   std::vector<std::string>* notices) {
  const auto stat = [&](const std::string& name) { return CountOf(check.stats(), name); };
  if (check.formats_size() > 0) {
    notices->push_back(absl::StrCat(check.formats_size() == 1 ? "format: " : "formats: ",
                                    absl::StrJoin(check.formats(), ", ")));
  }
  const int64_t eval_rows = stat("eval_rows") - stat("eval_pairs");
  for (const std::string prefix : {"", kEvalRows}) {
    if (stat(prefix + "rows") > 0) {
      notices->push_back(absl::StrCat(prefix.empty() ? "training: " : "evaluation: ",
                                      DescribeRows(check.stats(), prefix)));
    }
    const int64_t unread = stat(prefix + "unread_rows");
    if (unread == 0) continue;
    // Of the training files' rows some may be for evaluation.
    const bool share = prefix.empty() && spec.dataset().eval_fraction() > 0;
    const int64_t read = stat(prefix + "rows") - stat(prefix + "pairs") + (share ? eval_rows : 0);
    notices->push_back(absl::StrCat("the check had time for the first ", read, " of about ",
                                    read + unread, prefix.empty() ? " training" : " evaluation",
                                    " rows; the job itself begins with a check of all"));
  }
}

// What keeps the job from ever being placed on these workers, in the words that it would wait with;
// memory is told apart, and so is what the check itself waits for.
std::optional<liger::v1::Warning> PlacementWarning(ScheduleSnapshot snapshot) {
  snapshot.jobs.front().state = liger::v1::JobStatus::QUEUED;
  snapshot.running_checks.clear();
  for (const WaitDecision& wait : Schedule(snapshot).waits) {
    const bool told = wait.reason == "NoWorker" || wait.reason == "ModelAbsent" ||
                      wait.reason == "DatasetAbsent" || wait.reason == "DeviceMemory";
    if (told || !wait.can_never) continue;
    liger::v1::Warning warning;
    warning.set_code(wait.reason);
    warning.set_field("resources.count");
    warning.set_message(
        absl::StrCat("the job would wait: ", WithAction(wait.message, wait.action)));
    return warning;
  }
  return std::nullopt;
}

// INVALID_ARGUMENT where no device that was ever seen holds a rank of the job.
absl::Status CheckMemory(const std::vector<WorkerRow>& workers, const liger::v1::JobSpec& resolved,
                         const MemoryNeeds& needs) {
  const std::optional<Shortage> why = AllTooSmall(workers, resolved, needs);
  if (!why) return absl::OkStatus();
  return InvalidArgument("parallel.strategy", WithAction(why->message, why->action));
}

}  // namespace

JobService::SubmitResult JobService::Impl::DryRunResult(const SubmitRequest& request,
                                                        const ResolvedSpec& resolved) const {
  SubmitResult result;
  result.notices = resolved.notices;
  result.warnings = resolved.warnings;
  result.checks_run = {"spec", "catalog"};
  result.job.set_tenant(request.tenant);
  result.job.set_name(resolved.spec.name());
  *result.job.mutable_spec() = request.spec;
  *result.job.mutable_resolved_spec() = resolved.spec;
  result.job.set_spec_hash(resolved.hash);
  result.job.set_spec_hash_version(kSpecHashVersion);
  return result;
}

// What CreateJob would refuse by what is stored, after the checks elsewhere. A name that is taken
// is a warning here: it is soon changed, and says nothing of the rest.
JobService::SubmitDone JobService::Impl::WithStoredChecks(const SubmitRequest& request,
                                                          const ResolvedSpec& resolved,
                                                          SubmitDone done) {
  JobRow job;
  job.tenant = request.tenant;
  job.name = resolved.spec.name();
  job.resolved_spec = resolved.spec;
  job.output = OutputPath(resolved.spec.output().uri());
  const bool own_output = HasOwnOutput(request.spec);
  return [self = shared_from_this(), job = std::move(job), own_output, id = request.request_id,
          hash = BodyHash(request.spec),
          done = std::move(done)](absl::StatusOr<SubmitResult> checked) {
    if (!checked.ok()) return done(checked.status());
    self->store_.Read<SubmitResult>(
        [job, own_output, id, hash, now = self->NowUs(),
         result = *std::move(checked)](const ReadView& view) -> absl::StatusOr<SubmitResult> {
          const absl::StatusOr<std::optional<JobRow>> earlier =
              EarlierJob(view, job.tenant, id, hash, now);
          if (!earlier.ok()) return earlier.status();
          if (earlier->has_value()) {
            SubmitResult noted = result;
            noted.notices.push_back(absl::StrCat("request '", id, "' made the job '",
                                                 (*earlier)->name,
                                                 "', and would be answered with it"));
            return noted;
          }
          const std::string taken = WhyNameIsTaken(view, job.tenant, job.name);
          absl::Status admissible;
          if (taken.empty()) {
            admissible = CheckNewJob(view, job);
          } else if (own_output) {
            admissible = CheckOutputIsFree(view, job);
          }
          if (!admissible.ok()) return admissible;
          if (taken.empty()) return result;
          SubmitResult warned = result;
          liger::v1::Warning& warning = warned.warnings.emplace_back();
          warning.set_code("NameTaken");
          warning.set_field("name");
          warning.set_message(taken);
          return warned;
        },
        done);
  };
}

// Puts the run off until it is known whether its name is another job's: the place that comes with
// the name is that job's, too, and a worker would look no further.
void JobService::Impl::LookAtName(WaitingDryRun run, const std::string& request_id) {
  const std::string id = run.id;
  const liger::v1::Job& job = run.result.job;
  const bool own_output = HasOwnOutput(job.spec());
  struct Found {
    bool taken = false;
    bool made = false;  // by this request
  };
  auto look = [tenant = job.tenant(), name = job.name(), request_id, hash = BodyHash(job.spec()),
               now = NowUs()](const ReadView& view) -> absl::StatusOr<Found> {
    const auto earlier = EarlierJob(view, tenant, request_id, hash, now);
    if (!earlier.ok()) return earlier.status();
    return Found{!WhyNameIsTaken(view, tenant, name).empty(), earlier->has_value()};
  };
  {
    absl::MutexLock lock(&mutex_);
    waiting_dry_runs_.insert_or_assign(id, std::move(run));
  }
  store_.Read<Found>(
      std::move(look), [self = shared_from_this(), id, own_output](absl::StatusOr<Found> found) {
        std::optional<WaitingDryRun> run = self->TakeWaiting(id);
        if (!run.has_value()) return;  // given up
        if (!found.ok()) return run->done(found.status());
        if (found->made) {  // its own output is no obstacle
          run->result.checks_skipped = {"model", "data"};
          return run->done(std::move(run->result));
        }
        liger::v1::OutputSpec& output = *run->resolved.spec.mutable_output();
        if (found->taken && !own_output) {
          output.set_uri(absl::StrCat(output.uri(), "-", RandomSuffix(kOutputSuffixLength)));
        }
        run->name_known = true;
        self->StartDryRun(*std::move(run));
      });
}

std::optional<JobService::Impl::WaitingDryRun> JobService::Impl::TakeWaiting(
    const std::string& id) {
  absl::MutexLock lock(&mutex_);
  auto node = waiting_dry_runs_.extract(id);
  if (!node) return std::nullopt;
  return std::move(node.mapped());
}

std::function<void()> JobService::Impl::Validate(SubmitRequest request, SubmitDone done) {
  absl::StatusOr<ResolvedSpec> resolved = Resolve(request.spec);
  if (!resolved.ok()) {
    if (request.request_id.empty()) {
      done(resolved.status());
    } else {
      AnswerEarlier(request, resolved.status(), std::move(done));  // as Submit does
    }
    return [] {};
  }
  done = WithStoredChecks(request, *resolved, std::move(done));
  const std::string id = absl::StrCat("dry-run-", options_.new_id());
  SubmitResult result = DryRunResult(request, *resolved);
  LookAtName({id, *std::move(resolved), std::move(result), std::move(done),
              SteadyUs() + kDryRunPatienceUs},
             request.request_id);
  return [self = shared_from_this(), id] {
    const absl::Status gone = absl::CancelledError("the client went away");
    const std::optional<WaitingDryRun> waiting = self->TakeWaiting(id);
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
    if (busy && SteadyUs() < run.until_us) {
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
  std::vector<WaitingDryRun> waiting;
  {
    absl::MutexLock lock(&mutex_);
    for (auto& [id, run] : waiting_dry_runs_) {
      if (run.name_known) waiting.push_back(std::move(run));
    }
    for (const WaitingDryRun& run : waiting) waiting_dry_runs_.erase(run.id);
  }
  for (WaitingDryRun& run : waiting) StartDryRun(std::move(run));
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
  FillFitness(state_.get(), &snapshot);
  const ScheduleDecisions decisions = Schedule(snapshot);
  const std::optional<liger::v1::Warning> unplaceable = PlacementWarning(snapshot);
  if (decisions.checks.empty() && unplaceable) result->warnings.push_back(*unplaceable);
  for (const WaitDecision& wait : decisions.waits) {
    *busy |= wait.reason == "CheckSlotsBusy";
    result->notices.push_back(absl::StrCat("not checked on a worker: ", wait.message));
  }
  if (decisions.checks.empty()) return "";
  const int64_t deadline =
      SteadyUs() + static_cast<int64_t>(options_.validate_timeout_seconds * kSecondUs);
  dry_runs_.Add(
      id, decisions.checks[0].worker_id, deadline,
      [result = *result, workers = snapshot.workers, unplaceable,
       done](absl::StatusOr<liger::trainer::v1::CheckResult> check) mutable {
        if (!check.ok()) return done(check.status());
        if (check->violations_size() > 0) {
          return done(InvalidArgument({check->violations().begin(), check->violations().end()}));
        }
        const MemoryNeeds needs = MemoryNeeds::FromStats(check->stats());
        const absl::Status fits = CheckMemory(workers, result.job.resolved_spec(), needs);
        if (!fits.ok()) return done(fits);
        for (const std::string& ran : check->checks_run()) {
          if (ran != "spec") result.checks_run.push_back(ran);  // here as well
        }
        const liger::v1::JobSpec& resolved = result.job.resolved_spec();
        AddRowNotices(*check, resolved, &result.notices);
        result.notices.insert(result.notices.end(), check->notices().begin(),
                              check->notices().end());
        // The spec's are among them.
        result.warnings = {check->warnings().begin(), check->warnings().end()};
        if (unplaceable) result.warnings.push_back(*unplaceable);
        if (auto memory = MemoryWarning(workers, resolved, needs)) {
          result.warnings.push_back(*std::move(memory));
        } else if (std::string takes = MemoryNotice(workers, resolved, needs); !takes.empty()) {
          result.notices.push_back(std::move(takes));
        }
        result.checks_skipped = {check->checks_skipped().begin(), check->checks_skipped().end()};
        done(std::move(result));
      });
  state_->health.OnOffered(decisions.checks[0].worker_id, DryRuns::RefOf(id).job_uid(), SteadyUs());
  return decisions.checks[0].worker_id;
}

}  // namespace liger::server
