#include "server/metrics/experiment_metrics.h"

#include "prometheus/family.h"
#include "server/metrics/job_labels.h"
#include "server/metrics/job_metrics.h"

namespace liger::server {

using liger::v1::Experiment;
using liger::v1::JobStatus;
using prometheus::Gauge;
using prometheus::Labels;

void StepSums::Add(int64_t epoch, const liger::trainer::v1::Step& step) {
  timed.Add(epoch, step);
  ++count;
  seconds += step.step_seconds();
}

struct ExperimentMetrics::Families {
  explicit Families(prometheus::Registry* r)
      : info(Make(r, "info",
                  "What a job is that an experiment took from an earlier one; always 1.")),
        state(Make(r, "state", "Always 1; how the job ended, and what failed it.")),
        timed_tokens_per_second(Make(r, "timed_tokens_per_second",
                                     "As liger_job_timed_tokens_per_second, if it succeeded.")),
        peak_memory(Make(r, "peak_memory_bytes",
                         "As liger_job_peak_memory_bytes, if it succeeded.")),
        step_seconds(Make(r, "mean_step_seconds",
                          "Mean duration of its logged steps, if it succeeded.")) {}

  static Family& Make(prometheus::Registry* r, const std::string& name, const std::string& help) {
    return prometheus::BuildGauge().Name("liger_experiment_job_" + name).Help(help).Register(*r);
  }

  Family &info, &state, &timed_tokens_per_second, &peak_memory, &step_seconds;
};

namespace {

absl::Time EndOf(const Experiment& experiment, absl::Time now) {
  const bool over =
      experiment.state() != Experiment::RUNNING && experiment.state() != Experiment::CANCELLING;
  if (!over) return absl::InfiniteFuture();
  if (!experiment.has_end_time()) return now;
  return absl::FromUnixSeconds(experiment.end_time().seconds()) +
         absl::Nanoseconds(experiment.end_time().nanos());
}

}  // namespace

ExperimentMetrics::ExperimentMetrics(prometheus::Registry* registry)
    : families_(std::make_unique<Families>(registry)) {}
ExperimentMetrics::~ExperimentMetrics() = default;

std::vector<int> ExperimentMetrics::Update(const Experiment& experiment, absl::Time now) {
  std::vector<int> fresh;
  const absl::Time end = EndOf(experiment, now);
  absl::MutexLock lock(&mutex_);
  const auto known = series_.find(experiment.uid());
  for (int i = 0; i < experiment.jobs_size(); ++i) {
    const liger::v1::ExperimentJob& job = experiment.jobs(i);
    if (!job.cached()) continue;
    if (known == series_.end() || !known->second.taken.contains(job.job_uid())) fresh.push_back(i);
  }
  if (known == series_.end()) {
    const bool given_up = experiment.state() == Experiment::CANCELLING ||
                          experiment.state() == Experiment::CANCELLED;
    if (fresh.empty() || given_up || end + JobMetrics::kRetention <= now) return {};
    series_[experiment.uid()].name = experiment.name();
  }
  series_[experiment.uid()].end = end;
  return fresh;
}

void ExperimentMetrics::Take(const std::string& experiment_uid, const std::string& point,
                             const liger::v1::Job& job, const StepSums& steps) {
  absl::MutexLock lock(&mutex_);
  const auto found = series_.find(experiment_uid);
  if (found == series_.end()) return;
  Series& series = found->second;
  if (!series.taken.insert(job.uid()).second) return;
  const auto set = [&series](Family& family, const Labels& labels, double value) {
    Gauge& gauge = family.Add(labels);
    gauge.Set(value);
    series.gauges.emplace_back(&family, &gauge);
  };
  Labels info = InfoLabels(job);
  info["experiment"] = series.name;
  info["experiment_uid"] = experiment_uid;
  if (!point.empty()) info["point"] = point;
  set(families_->info, info, 1);
  const Labels id = {{"experiment", series.name},
                     {"experiment_uid", experiment_uid},
                     {"job_name", job.name()},
                     {"job_uid", job.uid()}};
  Labels state = id;
  state["state"] = JobStatus::State_Name(job.status().state());
  state["failure"] = FailureLabel(job.status());
  set(families_->state, state, 1);
  if (job.status().state() != JobStatus::SUCCEEDED) return;
  if (steps.timed.seconds > 0) {
    set(families_->timed_tokens_per_second, id, steps.timed.tokens / steps.timed.seconds);
  }
  if (steps.count > 0) {
    set(families_->step_seconds, id, steps.seconds / static_cast<double>(steps.count));
  }
  for (const auto& [kind, bytes] : job.status().progress().peak_memory_bytes()) {
    Labels labels = id;
    labels["kind"] = kind;
    set(families_->peak_memory, labels, static_cast<double>(bytes));
  }
}

void ExperimentMetrics::Sweep(absl::Time now) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(series_, [now](const auto& entry) {
    if (entry.second.end + JobMetrics::kRetention > now) return false;
    for (const auto& [family, gauge] : entry.second.gauges) family->Remove(gauge);
    return true;
  });
}

}  // namespace liger::server
