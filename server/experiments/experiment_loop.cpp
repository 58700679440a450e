#include "server/experiments/experiment_loop.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/experiments/expand.h"
#include "server/experiments/result_key.h"

namespace liger::server {
namespace {

constexpr int64_t kMillisecondUs = 1000;
constexpr int64_t kActivePassUs = 250 * kMillisecondUs;
constexpr int64_t kIdlePassUs = 5000 * kMillisecondUs;
// Longer than the steps of a job that has ended can take to be stored.
constexpr int64_t kStepsGraceUs = 20'000 * kMillisecondUs;
// A turn is begun by what the workers listed so long ago at most.
constexpr int64_t kFilesLastUs = 2'000 * kMillisecondUs;
constexpr char kActor[] = "experiment";

const WorkerRow* FindWorker(const std::vector<WorkerRow>& workers, const std::string& id) {
  const auto found = std::find_if(workers.begin(), workers.end(),
                                  [&id](const WorkerRow& row) { return row.worker_id == id; });
  return found == workers.end() ? nullptr : &*found;
}

std::vector<liger::worker::v1::DeviceInfo> DevicesOf(const MemberRow& member,
                                                     const std::vector<WorkerRow>& workers) {
  std::vector<liger::worker::v1::DeviceInfo> devices;
  const WorkerRow* worker = FindWorker(workers, member.worker_id);
  if (worker == nullptr) return devices;
  for (const auto& device : worker->hello.devices()) {
    const auto& had = member.device_uuids;
    if (std::find(had.begin(), had.end(), device.uuid()) != had.end()) devices.push_back(device);
  }
  return devices;
}

// What the result of a job that is over is found by later. Empty for one on several
// workers: each has its own files, and only the first one's are known.
std::string KeyOf(const ReadView& view, const JobRow& job, const std::vector<WorkerRow>& workers) {
  std::vector<RanAttempt> attempts;
  for (const AttemptRow& attempt : view.Attempts(job.uid)) {
    const std::vector<MemberRow> members = view.Members(job.uid, attempt.epoch);
    if (members.size() != 1) return "";
    // One that never began has made nothing.
    const auto environment = view.Environment(job.uid, attempt.epoch);
    if (!environment.has_value()) continue;
    attempts.push_back({*environment, DevicesOf(members.front(), workers)});
  }
  return ResultKey(job.resolved_spec, job.spec_hash, attempts);
}

// A job of that name that this experiment submitted.
std::optional<JobRow> SubmittedJob(const ReadView& view, const ExperimentRow& row,
                                   const liger::v1::ExperimentJob& job) {
  if (!job.job_uid().empty()) return view.Job(job.job_uid());
  std::optional<JobRow> found = view.JobByName(row.tenant, job.job_name());
  if (!found.has_value()) return std::nullopt;
  const auto label = found->spec.labels().find(kExperimentLabel);
  const bool ours = label != found->spec.labels().end() && label->second == row.name;
  return ours ? found : std::nullopt;
}

// Earlier jobs whose logged steps are still there.
std::vector<EarlierResult> EarlierJobs(const ReadView& view, const std::string& tenant,
                                const std::vector<std::string>& keys) {
  std::vector<EarlierResult> jobs;
  for (const std::string& key : keys) {
    for (const std::string& uid : view.Results(tenant, key)) {
      std::optional<JobRow> job = view.Job(uid);
      if (!job.has_value() || job->deleted_us != 0 || !IsReusable(*job)) continue;
      const bool steps = view.MetricsThroughStep(uid, job->epoch) > 0;
      if (OutcomeOf(*job) == liger::v1::ExperimentJob::SUCCEEDED && !steps) continue;
      EarlierResult& earlier = jobs.emplace_back();
      for (const MemberRow& member : view.Members(uid, job->epoch)) {
        earlier.device_uuids.insert(earlier.device_uuids.end(), member.device_uuids.begin(),
                                    member.device_uuids.end());
      }
      earlier.job = *std::move(job);
    }
  }
  return jobs;
}

// A worker ships steps now and then, and they are stored now and then.
bool StepsPending(const ReadView& view, const liger::v1::Experiment& experiment, int64_t now_us) {
  for (const auto& job : experiment.jobs()) {
    if (job.outcome() == liger::v1::ExperimentJob::PENDING) return false;
    if (job.cached() || job.job_uid().empty()) continue;
    const std::optional<JobRow> row = view.Job(job.job_uid());
    if (!row.has_value() || row->state != liger::v1::JobStatus::SUCCEEDED) continue;
    if (now_us - row->ended_us > kStepsGraceUs) continue;
    if (view.MetricsThroughStep(row->uid, row->epoch) < row->status.progress().step()) return true;
  }
  return false;
}

}  // namespace

bool ExperimentLoop::AskedBefore(int64_t asked_us, int64_t event_us) const {
  return asked_us < event_us && event_us <= NowUs();
}

int64_t ExperimentLoop::NowUs() const { return absl::ToUnixMicros(clock_.Now()); }
int64_t ExperimentLoop::SteadyUs() const { return absl::ToInt64Microseconds(clock_.Elapsed()); }

void ExperimentLoop::Request() {
  {
    absl::MutexLock lock(&mutex_);
    if (stopped_) return;
    if (std::exchange(running_, true)) {
      again_ = true;
      return;
    }
  }
  StartPass();
}

void ExperimentLoop::Tick() {
  {
    absl::MutexLock lock(&mutex_);
    if (running_ || SteadyUs() - last_pass_us_ < (some_active_ ? kActivePassUs : kIdlePassUs))
      return;
  }
  Request();
}

void ExperimentLoop::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
}

void ExperimentLoop::StartPass() {
  std::shared_ptr<const Files> files;
  {
    absl::MutexLock lock(&mutex_);
    again_ = false;
    last_pass_us_ = SteadyUs();
    files = files_;
  }
  store_.Read<Facts>(
      [self = shared_from_this(), files](const ReadView& view) -> absl::StatusOr<Facts> {
        Facts facts;
        std::vector<ExperimentRow> rows = view.ActiveExperiments();
        if (rows.empty()) return facts;
        const std::vector<WorkerRow> workers = view.Workers();
        for (ExperimentRow& row : rows) {
          facts.experiments.push_back(
              self->Gather(view, std::move(row), workers, *files, &facts.look));
        }
        return facts;
      },
      [self = shared_from_this()](const absl::StatusOr<Facts>& facts) {
        if (!facts.ok()) return self->FinishPass();  // the store is closing or ill
        self->Carry(*facts);
      });
}

void ExperimentLoop::FinishPass() {
  {
    absl::MutexLock lock(&mutex_);
    if (!again_ || stopped_) {
      running_ = false;
      return;
    }
  }
  StartPass();
}

ExperimentFacts ExperimentLoop::Gather(const ReadView& view, ExperimentRow row,
                                       const std::vector<WorkerRow>& workers, const Files& files,
                                       bool* look) {
  ExperimentFacts facts;
  const liger::v1::Experiment& experiment = row.experiment;
  for (int i = 0; i < experiment.jobs_size(); ++i) {
    const liger::v1::ExperimentJob& job = experiment.jobs(i);
    if (job.outcome() != liger::v1::ExperimentJob::PENDING &&
        job.outcome() != liger::v1::ExperimentJob::ACTIVE) {
      continue;
    }
    std::optional<JobRow> found = SubmittedJob(view, row, job);
    if (!found.has_value()) continue;
    if (OutcomeOf(*found) != liger::v1::ExperimentJob::ACTIVE) {
      facts.keys[i] = KeyOf(view, *found, workers);
    }
    facts.jobs.emplace(i, *std::move(found));
  }
  facts.steps_pending = StepsPending(view, experiment, NowUs());
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [key, why] : refused_) {
      if (key.first == row.uid) facts.refused[key.second] = why;
    }
  }
  facts.row = std::move(row);
  GatherEarlier(view, files, &facts, look);
  return facts;
}

void ExperimentLoop::GatherEarlier(const ReadView& view, const Files& files, ExperimentFacts* facts,
                                   bool* look) {
  const liger::v1::Experiment& experiment = facts->row.experiment;
  const std::vector<int> next = NextJobs(experiment);
  const bool reuse = experiment.spec().reuse_results();
  const liger::v1::DeviceKind kind = experiment.spec().job().resources().device_kind();
  // A worker that is away for a moment, or not back yet at a new coordinator, may have
  // what these results were of; without one nothing could start anyway.
  facts->no_worker =
      reuse && !next.empty() && files.told_us > 0 &&
      (kind == liger::v1::DEVICE_KIND_UNSPECIFIED ? files.kinds.empty()
                                                  : !files.kinds.contains(kind));
  // A file that was edited before the experiment came is another one.
  if (reuse && !next.empty() &&
      (AskedBefore(files.asked_us, facts->row.created_us) ||
       SteadyUs() - files.told_us > kFilesLastUs)) {
    *look = true;
    return;
  }
  if (facts->no_worker) return;
  for (const int i : next) {
    std::vector<EarlierResult>& earlier = facts->earlier[i];
    if (!reuse) continue;
    const absl::StatusOr<liger::v1::JobSpec> spec = JobSpecOf(experiment, experiment.jobs(i));
    if (!spec.ok()) continue;
    const absl::StatusOr<ResolvedSpec> resolved = jobs_.Resolve(*spec);
    if (!resolved.ok()) continue;
    earlier = EarlierJobs(view, facts->row.tenant,
                          PossibleKeys(resolved->spec, resolved->hash, files.listed));
  }
}

void ExperimentLoop::LookAtFiles() {
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(looking_, true)) return;
  }
  jobs_.Look([self = shared_from_this(), asked_us = NowUs()](
                 std::vector<WorkerRow> asked, const std::set<std::string>& answered) {
    auto files = std::make_shared<Files>();
    files->asked_us = asked_us;
    files->told_us = self->SteadyUs();
    for (WorkerRow& row : asked) {
      for (const auto& device : row.hello.devices()) {
        if (row.state == WorkerState::kReady) files->kinds.insert(device.kind());
      }
      if (answered.contains(row.worker_id)) files->listed.push_back(std::move(row));
    }
    {
      absl::MutexLock lock(&self->mutex_);
      self->looking_ = false;
      self->files_ = std::move(files);
    }
    self->Request();
  });
}

void ExperimentLoop::Carry(const Facts& facts) {
  {
    absl::MutexLock lock(&mutex_);
    some_active_ = !facts.experiments.empty();
  }
  // The last command to let go of the pass ends it.
  std::shared_ptr<void> pass(nullptr, [self = shared_from_this()](void*) { self->FinishPass(); });
  if (facts.look) LookAtFiles();
  for (const ExperimentFacts& one : facts.experiments) {
    ExperimentPlan plan = PlanExperiment(one, NowUs());
    if (plan.changed) {
      Save(pass, one, std::move(plan));
    } else {
      Do(pass, one.row, plan);
    }
  }
}

void ExperimentLoop::Save(std::shared_ptr<void> pass, const ExperimentFacts& facts,
                          ExperimentPlan plan) {
  SaveExperiment command{.uid = facts.row.uid, .revision = facts.row.revision};
  command.experiment = plan.experiment;
  command.results = plan.results;
  command.reclaim_jobs = plan.reclaim_jobs;
  store_.Apply<SaveExperiment>(
      NowUs(), kActor, std::move(command),
      [self = shared_from_this(), pass, row = facts.row, refused = facts.refused,
       plan = std::move(plan)](const absl::StatusOr<SaveExperiment::Result>& saved) {
        // Otherwise it has changed, or the disk is full: the next pass sees.
        if (!saved.ok()) return;
        {
          absl::MutexLock lock(&self->mutex_);
          for (const auto& [index, why] : refused) self->refused_.erase({row.uid, index});
        }
        if (self->changed_) self->changed_(plan.experiment);
        self->jobs_.Reclaim(saved->reclaims);
        self->Request();  // what follows from it
        self->Do(pass, row, plan);
      });
}

void ExperimentLoop::Do(std::shared_ptr<void> pass, const ExperimentRow& row,
                        const ExperimentPlan& plan) {
  for (const std::string& uid : plan.cancel) {
    jobs_.Cancel(row.tenant, kActor, uid, absl::StrCat("experiment ", row.name, " was cancelled"),
                 [pass](const absl::StatusOr<liger::v1::Job>&) {});
  }
  for (const int index : plan.submit) Submit(pass, row, plan.experiment, index);
}

void ExperimentLoop::Submit(std::shared_ptr<void> pass, const ExperimentRow& row,
                            const liger::v1::Experiment& experiment, int index) {
  absl::StatusOr<liger::v1::JobSpec> spec = JobSpecOf(experiment, experiment.jobs(index));
  if (!spec.ok()) return Refuse(row.uid, index, spec.status());
  JobService::SubmitRequest request{row.tenant, kActor, *std::move(spec),
                                    absl::StrCat("experiment-", row.uid, "-", index)};
  jobs_.Submit(std::move(request), [self = shared_from_this(), pass, uid = row.uid,
                                    index](const absl::StatusOr<JobService::SubmitResult>& result) {
    if (result.ok()) return self->Request();
    if (IsStorageError(result.status()) || absl::IsCancelled(result.status())) return;
    self->Refuse(uid, index, result.status());
  });
}

void ExperimentLoop::Refuse(const std::string& uid, int index, const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  refused_[{uid, index}] = std::string(why.message());
  again_ = true;
}

}  // namespace liger::server
