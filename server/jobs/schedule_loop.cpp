#include "server/jobs/schedule_loop.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/experiments/plan.h"
#include "server/jobs/task_starts.h"
#include "server/jobs/worker_fitness.h"
#include "server/store/outputs.h"

namespace liger::server {
namespace {

constexpr int64_t kSecond = 1000000;
// Without any event; covers what waits for time alone.
constexpr int64_t kIdlePassUs = 5 * kSecond;
constexpr double kLongestBackoffSeconds = 60;

std::map<std::string, const JobRow*> ByUid(const ScheduleSnapshot& snapshot) {
  std::map<std::string, const JobRow*> jobs;
  for (const JobRow& job : snapshot.jobs) jobs[job.uid] = &job;
  return jobs;
}

bool IsAbsent(const WaitDecision& wait) {
  return wait.reason == "ModelAbsent" || wait.reason == "DatasetAbsent";
}

// No worker that is there can ever take the job: it ends, unless others come in time.
bool EndsJob(const JobRow& job, const WaitDecision& wait) {
  return wait.refused || (job.state == liger::v1::JobStatus::VALIDATING && IsAbsent(wait));
}

// What of the spec cannot be had.
const char* FieldOf(const WaitDecision& wait) {
  if (wait.reason == "ModelAbsent") return "model.name";
  return wait.reason == "DatasetAbsent" ? "dataset.name" : "parallel.strategy";
}

}  // namespace

std::set<std::string> Unavailable(const std::vector<WorkerRow>& workers, FleetGate* gate) {
  std::set<std::string> away;
  for (const WorkerRow& worker : workers) away.insert(worker.worker_id);
  gate->Call([&away](FleetPort& fleet) {
    std::erase_if(away, [&fleet](const std::string& id) { return fleet.TakesTasks(id); });
  });
  return away;
}

int64_t ScheduleLoop::NowUs() const { return absl::ToUnixMicros(state_->options.clock->Now()); }

int64_t ScheduleLoop::SteadyUs() const {
  return absl::ToInt64Microseconds(state_->options.clock->Elapsed());
}

void ScheduleLoop::Request() {
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(running_, true)) {
      again_ = true;
      return;
    }
  }
  StartPass();
}

void ScheduleLoop::Exclude(const std::string& job_uid, const std::string& worker_id,
                           const std::string& detail) {
  absl::MutexLock lock(&mutex_);
  Exclusion& exclusion = exclusions_[{job_uid, worker_id}];
  const double seconds = std::min(
      kLongestBackoffSeconds, state_->options.refusal_backoff_seconds * (1ll << exclusion.times));
  exclusion.detail = detail;
  exclusion.times = std::min(exclusion.times + 1, 10);
  exclusion.until_us = SteadyUs() + static_cast<int64_t>(seconds * kSecond);
}

std::vector<TaskRow> ScheduleLoop::RunningChecks() const {
  absl::MutexLock lock(&mutex_);
  return running_checks_;
}

void ScheduleLoop::Tick() {
  const int64_t now = SteadyUs();
  bool due = false;
  {
    absl::MutexLock lock(&mutex_);
    due = now - last_pass_us_ >= kIdlePassUs;
    for (const auto& [placement, exclusion] : exclusions_) {
      due |= exclusion.until_us <= now && exclusion.until_us > last_pass_us_;
    }
  }
  if (due) Request();
}

void ScheduleLoop::StartPass() {
  {
    absl::MutexLock lock(&mutex_);
    again_ = false;
    last_pass_us_ = SteadyUs();
  }
  auto self = shared_from_this();
  store_.Read<ScheduleSnapshot>(
      [self](const ReadView& view) -> absl::StatusOr<ScheduleSnapshot> {
        return self->Snapshot(view);
      },
      [self](absl::StatusOr<ScheduleSnapshot> snapshot) {
        if (!snapshot.ok()) return self->FinishPass();  // the store is closing or ill
        self->Carry(*snapshot, Schedule(*snapshot));
      });
}

void ScheduleLoop::FinishPass() {
  {
    absl::MutexLock lock(&mutex_);
    if (!again_) {
      running_ = false;
      return;
    }
  }
  StartPass();
}

ScheduleSnapshot ScheduleLoop::Snapshot(const ReadView& view) {
  ScheduleSnapshot snapshot;
  std::map<std::string, liger::v1::JobSpec> known = std::exchange(specs_, {});
  for (JobRow& job : view.ActiveJobsWithoutSpecs()) {
    snapshot.job_names.emplace_back(job.uid, job.name);
    if (job.state != liger::v1::JobStatus::VALIDATING && !AwaitsPlacement(job.state)) continue;
    auto spec = known.extract(job.uid);
    if (spec.empty()) {
      std::optional<JobRow> whole = view.Job(job.uid);
      if (!whole.has_value()) continue;
      specs_[job.uid] = std::move(whole->resolved_spec);
    } else {
      specs_.insert(std::move(spec));
    }
    job.resolved_spec = specs_.at(job.uid);
    const std::vector<TaskRow> checks = view.Tasks(job.uid);
    for (const TaskRow& task : checks) {
      if (task.state != TaskState::kDone) continue;
      snapshot.checked.insert({job.uid, task.worker_id});
      snapshot.memory[job.uid].RaiseTo(MemoryNeeds::FromStats(task.result.stats()));
    }
    FillFailures(view, job, checks, NowUs(), &snapshot);
    const std::string checkpoint = NewestCheckpoint(view, job);
    if (!checkpoint.empty()) snapshot.checkpoints[job.uid] = checkpoint;
    snapshot.jobs.push_back(std::move(job));
  }
  snapshot.workers = view.Workers();
  for (auto& [uid, pin] : PinsOf(view)) {
    snapshot.pins[uid] = {std::move(pin.worker_id), std::move(pin.device_uuids)};
  }
  snapshot.occupied = view.UnreleasedMembers("");
  snapshot.running_checks = view.RunningTasks();
  {
    absl::MutexLock lock(&mutex_);
    running_checks_ = snapshot.running_checks;
  }
  const std::vector<TaskRow> dry_runs = state_->dry_runs.Running();
  snapshot.running_checks.insert(snapshot.running_checks.end(), dry_runs.begin(), dry_runs.end());
  snapshot.catalog_uris = catalog_.uris();
  snapshot.unavailable = Unavailable(snapshot.workers, &state_->fleet);
  FillFitness(state_.get(), &snapshot);
  const int64_t now = SteadyUs();
  const std::map<std::string, const JobRow*> jobs = ByUid(snapshot);
  absl::MutexLock lock(&mutex_);
  std::erase_if(exclusions_, [&](const auto& entry) {
    return !jobs.contains(entry.first.first) && entry.second.until_us + 600 * kSecond < now;
  });
  for (const auto& [placement, exclusion] : exclusions_) {
    if (exclusion.until_us > now) snapshot.excluded[placement] = exclusion.detail;
  }
  return snapshot;
}

template <typename C>
void ScheduleLoop::Apply(std::shared_ptr<void> pass, C command,
                         std::function<void(const typename C::Result&)> then) {
  store_.Apply<C>(NowUs(), "scheduler", std::move(command),
                  [pass, then = std::move(then)](absl::StatusOr<typename C::Result> result) {
                    // An error means that the world moved on since the
                    // snapshot; the next pass sees that.
                    if (result.ok() && then) then(*result);
                  });
}

void ScheduleLoop::Carry(const ScheduleSnapshot& snapshot, const ScheduleDecisions& decisions) {
  // The last command to let go of the pass ends it.
  auto self = shared_from_this();
  std::shared_ptr<void> pass(nullptr, [self](void*) { self->FinishPass(); });
  for (const CheckDecision& check : decisions.checks) {
    {
      absl::MutexLock lock(&mutex_);
      TaskRow& task = running_checks_.emplace_back();
      task.job_uid = check.job_uid;
      task.worker_id = check.worker_id;
    }
    state_->health.OnOffered(check.worker_id, check.job_uid, SteadyUs());
    AssignCheck command{.job_uid = check.job_uid, .worker_id = check.worker_id};
    command.task_id = absl::StrCat("check-", state_->options.new_id());
    Apply<AssignCheck>(pass, std::move(command), [self](const AssignCheck::Result& result) {
      const TaskStart start = CheckStart(result.job, result.task);
      self->state_->fleet.Call([&start](FleetPort& fleet) { fleet.StartGang({start}); });
    });
  }
  for (const PlacementDecision& placement : decisions.placements) {
    StartAttempt command{.job_uid = placement.job_uid};
    int32_t rank = 0;
    for (const PlacedMember& placed : placement.members) {
      MemberPlan& member = command.members.emplace_back();
      member.worker_id = placed.worker_id;
      member.device_uuids = placed.device_uuids;
      for (size_t i = 0; i < placed.device_uuids.size(); ++i) member.ranks.push_back(rank++);
      state_->health.OnOffered(placed.worker_id, placement.job_uid, SteadyUs());
    }
    const auto checkpoint = snapshot.checkpoints.find(placement.job_uid);
    if (checkpoint != snapshot.checkpoints.end()) command.resume_from = checkpoint->second;
    const std::string resume_from = command.resume_from;
    Apply<StartAttempt>(pass, std::move(command), [=](const StartAttempt::Result& result) {
      const AttemptRow attempt{
          .job_uid = result.job.uid, .epoch = result.epoch, .resume_from = resume_from};
      const std::vector<TaskStart> gang = TrainStarts(result.job, attempt, result.members);
      self->state_->fleet.Call([&gang](FleetPort& fleet) { fleet.StartGang(gang); });
    });
  }
  Explain(pass, snapshot, decisions);
}

void ScheduleLoop::Explain(std::shared_ptr<void> pass, const ScheduleSnapshot& snapshot,
                           const ScheduleDecisions& decisions) {
  SetWaitReasons command;
  std::set<std::string> ending;
  const std::map<std::string, const JobRow*> jobs = ByUid(snapshot);
  for (const WaitDecision& wait : decisions.waits) {
    const auto found = jobs.find(wait.job_uid);
    if (found == jobs.end()) continue;
    const JobRow& job = *found->second;
    const bool may_end = EndsJob(job, wait);
    if (may_end) ending.insert(wait.job_uid);
    if (may_end && GraceIsOver(job.uid)) {
      FailJob fail{.job_uid = wait.job_uid, .reason = wait.reason};
      fail.failure.set_class_(liger::v1::FAILURE_CLASS_CONFIG);
      fail.failure.set_message(wait.message);
      fail.failure.set_action(absl::StrCat(wait.action, ", then submit again"));
      fail.failure.set_field(FieldOf(wait));
      Apply<FailJob>(pass, std::move(fail), nullptr);
    } else if (job.reason != wait.reason || job.status.message() != wait.message ||
               job.status.action() != wait.action) {
      command.reasons.push_back({wait.job_uid, wait.reason, wait.message, wait.action});
    }
  }
  if (!command.reasons.empty()) Apply<SetWaitReasons>(pass, std::move(command), nullptr);

  absl::MutexLock lock(&mutex_);
  std::erase_if(ending_since_us_,
                [&ending](const auto& entry) { return !ending.contains(entry.first); });
}

bool ScheduleLoop::GraceIsOver(const std::string& job_uid) {
  const int64_t now = SteadyUs();
  absl::MutexLock lock(&mutex_);
  const int64_t since = ending_since_us_.try_emplace(job_uid, now).first->second;
  return now - since > static_cast<int64_t>(state_->options.absent_grace_seconds * kSecond);
}

}  // namespace liger::server
