#include "server/coordinator/metrics_feed.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "liger/worker/v1/worker.pb.h"
#include "server/experiments/expand.h"
#include "server/store/attempts.h"

namespace liger::server {
namespace {

using liger::v1::JobStatus;

// That are over, whose series may come back: those that changed last.
constexpr int32_t kRecentExperiments = 50;

struct Counts {
  std::map<JobStatus::State, int> jobs;
  std::map<std::string, int> workers;
  std::map<std::string, int> gpus;
  std::map<std::string, absl::Duration> idle;  // of running jobs, by uid
};

Counts ReadCounts(const ReadView& view, const Fleet& fleet) {
  const std::map<std::string, Fleet::WorkerView> live = fleet.Workers();
  Counts counts;
  for (const auto& [state, count] : view.CountJobs()) counts.jobs[state] = static_cast<int>(count);
  for (const auto& [uid, epoch] : view.RunningJobs()) {
    if (const auto idle = fleet.IdleTime(TrainRef(uid, epoch))) counts.idle[uid] = *idle;
  }
  std::set<std::string> occupied;
  for (const MemberRow& member : view.UnreleasedMembers("")) {
    occupied.insert(member.device_uuids.begin(), member.device_uuids.end());
  }
  for (const WorkerRow& worker : view.Workers()) {
    ++counts.workers[WorkerStateName(Fleet::StateOf(worker, live))];
    for (const liger::worker::v1::DeviceInfo& device : worker.hello.devices()) {
      if (device.kind() != liger::v1::DEVICE_KIND_CUDA) continue;
      ++counts.gpus[worker.state == WorkerState::kLost ? "lost"
                    : !device.fault().empty()          ? "cordoned"
                    : occupied.contains(device.uuid()) ? "allocated"
                                                       : "free"];
    }
  }
  return counts;
}

// Calls take(epoch, step) for each logged step of the job.
template <typename Take>
void ForEachStep(const ReadView& view, const std::string& job_uid, Take take) {
  for (const AttemptRow& attempt : view.Attempts(job_uid)) {
    for (const MetricChunkRow& chunk : view.MetricChunks(job_uid, attempt.epoch, 0, 0)) {
      liger::worker::v1::MetricChunk parsed;
      if (!parsed.ParseFromString(chunk.blob)) continue;  // QueryMetrics reports it
      for (const liger::worker::v1::MetricSample& sample : parsed.samples()) {
        take(attempt.epoch, sample.step());
      }
    }
  }
}

void TakeJobs(const ReadView& view, const liger::v1::Experiment& experiment,
              const std::vector<int>& indices, ExperimentMetrics* metrics) {
  for (const int i : indices) {
    const liger::v1::ExperimentJob& taken = experiment.jobs(i);
    const std::optional<JobRow> row = view.Job(taken.job_uid());
    const absl::StatusOr<liger::v1::JobSpec> spec = JobSpecOf(experiment, taken);
    if (!row.has_value() || !spec.ok()) continue;
    StepSums steps;
    ForEachStep(view, row->uid, [&](int64_t epoch, const liger::trainer::v1::Step& step) {
      steps.Add(epoch, step);
    });
    const auto point = spec->labels().find(kPointLabel);
    metrics->Take(experiment.uid(), point == spec->labels().end() ? "" : point->second,
                  ToProto(view, *row), steps);
  }
}

int64_t Micros(const google::protobuf::Timestamp& time) {
  return time.seconds() * 1'000'000 + time.nanos() / 1000;
}

}  // namespace

absl::Status MetricsFeed::Resume() {
  const absl::Time now = absl::Now();
  return store_
      ->ReadAndWait<bool>([this, now](const ReadView& view) -> absl::StatusOr<bool> {
        for (const JobRow& row : view.ActiveJobs()) ResumeJob(view, row, now);
        const int64_t since = absl::ToUnixMicros(now - JobMetrics::kRetention);
        for (const JobRow& row : view.JobsEndedSince(since)) ResumeJob(view, row, now);
        std::vector<ExperimentRow> experiments = view.ActiveExperiments();
        for (ExperimentRow& row : view.EndedExperiments(kRecentExperiments)) {
          experiments.push_back(std::move(row));
        }
        for (const ExperimentRow& row : experiments) {
          TakeJobs(view, row.experiment, experiments_->Update(row.experiment, now), experiments_);
        }
        return true;
      })
      .status();
}

void MetricsFeed::ResumeJob(const ReadView& view, const JobRow& row, absl::Time now) {
  jobs_->Update(ToProto(view, row), now);
  ForEachStep(view, row.uid, [&](int64_t epoch, const liger::trainer::v1::Step& step) {
    jobs_->ObserveStep(row.uid, epoch, step);
    jobs_->SetTokens(row.uid, epoch, step.tokens_total());
  });
  if (row.state != JobStatus::QUEUED) return;
  absl::MutexLock lock(&mutex_);
  queued_us_[row.uid] = row.state_since_us;
}

void MetricsFeed::OnChanges(const std::vector<JobChange>& changes) {
  const absl::Time now = absl::Now();
  for (const JobChange& change : changes) {
    if (change.job == nullptr) continue;
    jobs_->Update(*change.job, now);
    if (!change.event.has_value()) continue;
    const liger::v1::JobEvent& event = *change.event;
    absl::MutexLock lock(&mutex_);
    if (event.to_state() == event.from_state()) continue;
    if (event.to_state() == JobStatus::QUEUED) {
      queued_us_[event.job_uid()] = Micros(event.time());
    } else if (const auto it = queued_us_.find(event.job_uid()); it != queued_us_.end()) {
      if (event.to_state() == JobStatus::STARTING) {
        fleet_->ObserveQueueWait(absl::Microseconds(Micros(event.time()) - it->second));
      }
      queued_us_.erase(it);
    }
  }
}

void MetricsFeed::OnExperiment(const liger::v1::Experiment& experiment) {
  std::vector<int> taken = experiments_->Update(experiment, absl::Now());
  if (taken.empty()) return;
  store_->Read<bool>(
      [experiment, taken = std::move(taken),
       metrics = experiments_](const ReadView& view) -> absl::StatusOr<bool> {
        TakeJobs(view, experiment, taken, metrics);
        return true;
      },
      [](const absl::StatusOr<bool>&) {});
}

void MetricsFeed::Refresh(const Fleet& fleet) {
  jobs_->Sweep(absl::Now());
  experiments_->Sweep(absl::Now());
  fleet_->SetOldestWait(OldestWait(absl::Now()));
  store_->Read<Counts>(
      [&fleet](const ReadView& view) -> absl::StatusOr<Counts> { return ReadCounts(view, fleet); },
      [this](const absl::StatusOr<Counts>& counts) {
        if (!counts.ok()) return;
        fleet_->SetJobs(counts->jobs);
        fleet_->SetWorkers(counts->workers);
        fleet_->SetGpus(counts->gpus);
        for (const auto& [uid, idle] : counts->idle) jobs_->SetIdle(uid, idle);
        absl::MutexLock lock(&mutex_);
        store_answered_ = Clock::Real()->Elapsed();
      });
}

absl::Duration MetricsFeed::OldestWait(absl::Time now) {
  absl::MutexLock lock(&mutex_);
  absl::Duration oldest = absl::ZeroDuration();
  for (const auto& [uid, since_us] : queued_us_) {
    oldest = std::max(oldest, now - absl::FromUnixMicros(since_us));
  }
  return oldest;
}

absl::Duration MetricsFeed::store_answered() {
  absl::MutexLock lock(&mutex_);
  return store_answered_;
}

}  // namespace liger::server
