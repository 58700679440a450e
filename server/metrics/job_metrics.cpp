#include "server/metrics/job_metrics.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "server/metrics/job_labels.h"
#include "server/metrics/timed_steps.h"

namespace liger::server {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;

bool HasEnded(liger::v1::JobStatus::State state) {
  return state == liger::v1::JobStatus::SUCCEEDED || state == liger::v1::JobStatus::FAILED ||
         state == liger::v1::JobStatus::CANCELLED;
}

// From a fused op on a small model to a step of many micro-batches.
const Histogram::BucketBoundaries& StepBuckets() {
  static const auto& buckets = *new Histogram::BucketBoundaries{
      0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300};
  return buckets;
}

}  // namespace

struct JobMetrics::Families {
  explicit Families(prometheus::Registry* r)
      : info(MakeGauge(r, "liger_job_info", "What a job is; always 1.")),
        state(MakeGauge(r, "liger_job_state",
                        "Always 1; the state that a job is in, and what failed it.")),
        idle(MakeGauge(r, "liger_job_idle_seconds",
                       "Time since the trainer last got on; 0 while the job does not run.")),
        step(MakeGauge(r, "liger_job_step", "Optimizer steps done in the current attempt.")),
        progress(MakeGauge(r, "liger_job_progress_ratio", "Share of the steps done, 0 to 1.")),
        tokens_per_second(MakeGauge(r, "liger_job_tokens_per_second",
                                    "Non-padding tokens a second, of the last logged step.")),
        mean_tokens_per_second(
            MakeGauge(r, "liger_job_mean_tokens_per_second",
                      "Non-padding tokens a second, over all steps of the attempt.")),
        timed_tokens_per_second(MakeGauge(
            r, "liger_job_timed_tokens_per_second",
            "Non-padding tokens a second, over the attempt's logged steps after the first, which "
            "warms up: as the reports have it.")),
        peak_memory(MakeGauge(r, "liger_job_peak_memory_bytes",
                              "Peak memory by kind; of several ranks the largest.")),
        rank_peak_memory(MakeGauge(r, "liger_job_rank_peak_memory_bytes",
                                   "Peak memory by rank and kind, of jobs on several devices.")),
        loss(MakeGauge(r, "liger_job_loss", "Training loss of the last logged step.")),
        grad_norm(MakeGauge(r, "liger_job_grad_norm", "Gradient norm before clipping.")),
        learning_rate(MakeGauge(r, "liger_job_learning_rate", "Learning rate of the last step.")),
        mfu(MakeGauge(r, "liger_job_mfu_ratio", "Model FLOPs utilisation, 0 to 1.")),
        tokens(prometheus::BuildCounter()
                   .Name("liger_job_tokens_total")
                   .Help("Non-padding tokens consumed, over all attempts.")
                   .Register(*r)),
        step_seconds(prometheus::BuildHistogram()
                         .Name("liger_job_step_seconds")
                         .Help("Duration of a logged optimizer step.")
                         .Register(*r)) {}

  static Family<Gauge>& MakeGauge(prometheus::Registry* r, const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(*r);
  }

  Family<Gauge>&info, &state, &idle, &step, &progress, &tokens_per_second, &mean_tokens_per_second,
      &timed_tokens_per_second, &peak_memory, &rank_peak_memory, &loss, &grad_norm, &learning_rate,
      &mfu;
  Family<Counter>& tokens;
  Family<Histogram>& step_seconds;
};

// The series of one job, with what is needed to take them back. A gauge comes
// into being when there is a value for it; what counts steps, when the job runs: of
// thousands that wait, only what they are and their state is exported.
struct JobMetrics::Series {
  Labels labels;
  Labels info_labels;
  Gauge* info = nullptr;
  Gauge* state = nullptr;
  std::vector<std::pair<Family<Gauge>*, Gauge*>> gauges;
  Counter* tokens = nullptr;
  Histogram* step_seconds = nullptr;
  std::map<int64_t, int64_t> tokens_by_epoch;
  TimedSteps timed;
  std::optional<absl::Time> end;

  void Set(Family<Gauge>& family, double value, const Labels& extra = {}) {
    Labels all = labels;
    all.insert(extra.begin(), extra.end());
    Gauge& gauge = family.Add(all);
    gauge.Set(value);
    const std::pair<Family<Gauge>*, Gauge*> entry(&family, &gauge);
    if (std::find(gauges.begin(), gauges.end(), entry) == gauges.end()) gauges.push_back(entry);
  }
};

JobMetrics::JobMetrics(prometheus::Registry* registry)
    : families_(std::make_unique<Families>(registry)) {}

JobMetrics::~JobMetrics() = default;

std::unique_ptr<JobMetrics::Series> JobMetrics::MakeSeries(const liger::v1::Job& job) {
  auto series = std::make_unique<Series>();
  series->labels = {{"job_name", job.name()}, {"job_uid", job.uid()}};
  return series;
}

void JobMetrics::CountStepsLocked(Series* series) {
  if (series->tokens != nullptr) return;
  series->tokens = &families_->tokens.Add(series->labels);
  series->step_seconds = &families_->step_seconds.Add(series->labels, StepBuckets());
  series->Set(families_->idle, 0);
}

void JobMetrics::Update(const liger::v1::Job& job, absl::Time now) {
  std::optional<absl::Time> end;
  if (HasEnded(job.status().state())) {
    end = job.has_end_time() ? absl::FromUnixSeconds(job.end_time().seconds()) +
                                   absl::Nanoseconds(job.end_time().nanos())
                             : now;
    if (*end + kRetention <= now) return;
  }
  absl::MutexLock lock(&mutex_);
  std::unique_ptr<Series>& series = series_[job.uid()];
  if (series == nullptr) series = MakeSeries(job);
  series->end = end;

  // Resolution may fill in labels after the first sight of the job.
  if (Labels info = InfoLabels(job); info != series->info_labels || series->info == nullptr) {
    if (series->info != nullptr) families_->info.Remove(series->info);
    series->info = &families_->info.Add(info);
    series->info->Set(1);
    series->info_labels = std::move(info);
  }

  // From 0 on, so that the increase over time has the first step in it.
  if (job.status().state() == liger::v1::JobStatus::RUNNING) CountStepsLocked(series.get());
  SetStateLocked(series.get(), job.status());

  if (!job.status().has_progress()) return;
  const liger::v1::Progress& progress = job.status().progress();
  series->Set(families_->step, progress.step());
  if (progress.max_steps() > 0) {
    series->Set(families_->progress,
                static_cast<double>(progress.step()) / static_cast<double>(progress.max_steps()));
  }
  series->Set(families_->tokens_per_second, progress.tokens_per_second());
  series->Set(families_->mean_tokens_per_second, progress.mean_tokens_per_second());
  for (const auto& [kind, bytes] : progress.peak_memory_bytes()) {
    series->Set(families_->peak_memory, static_cast<double>(bytes), {{"kind", kind}});
  }
  for (const liger::v1::RankProgress& rank : progress.ranks()) {
    for (const auto& [kind, bytes] : rank.peak_memory_bytes()) {
      series->Set(families_->rank_peak_memory, static_cast<double>(bytes),
                  {{"rank", absl::StrCat(rank.rank())}, {"kind", kind}});
    }
  }
  const std::pair<const char*, Family<Gauge>*> values[] = {
      {"loss", &families_->loss},
      {"grad_norm", &families_->grad_norm},
      {"learning_rate", &families_->learning_rate},
      {"mfu", &families_->mfu}};
  for (const auto& [name, family] : values) {
    const auto value = progress.values().find(name);
    if (value != progress.values().end()) series->Set(*family, value->second);
  }
  SetTokensLocked(series.get(), job.status().epoch(), progress.tokens_total());
}

void JobMetrics::SetStateLocked(Series* series, const liger::v1::JobStatus& status) {
  Labels labels = series->labels;
  labels["state"] = liger::v1::JobStatus::State_Name(status.state());
  labels["failure"] = FailureLabel(status);
  Gauge& gauge = families_->state.Add(labels);
  gauge.Set(1);
  if (&gauge == series->state) return;
  if (series->state != nullptr) families_->state.Remove(series->state);
  series->state = &gauge;
  const bool ran = series->tokens != nullptr;
  if (ran && status.state() != liger::v1::JobStatus::RUNNING) series->Set(families_->idle, 0);
}

void JobMetrics::SetIdle(const std::string& job_uid, absl::Duration idle) {
  absl::MutexLock lock(&mutex_);
  const auto it = series_.find(job_uid);
  if (it == series_.end() || it->second->end.has_value()) return;
  CountStepsLocked(it->second.get());
  it->second->Set(families_->idle, absl::ToDoubleSeconds(idle));
}

void JobMetrics::SetTokens(const std::string& job_uid, int64_t epoch, int64_t tokens_total) {
  absl::MutexLock lock(&mutex_);
  const auto it = series_.find(job_uid);
  if (it != series_.end()) SetTokensLocked(it->second.get(), epoch, tokens_total);
}

void JobMetrics::SetTokensLocked(Series* series, int64_t epoch, int64_t tokens_total) {
  int64_t& known = series->tokens_by_epoch[epoch];
  if (tokens_total <= known) return;
  CountStepsLocked(series);
  series->tokens->Increment(static_cast<double>(tokens_total - known));
  known = tokens_total;
}

void JobMetrics::ObserveStep(const std::string& job_uid, int64_t epoch,
                             const liger::trainer::v1::Step& step) {
  absl::MutexLock lock(&mutex_);
  const auto it = series_.find(job_uid);
  if (it == series_.end()) return;
  Series& series = *it->second;
  CountStepsLocked(&series);
  series.step_seconds->Observe(step.step_seconds());
  series.timed.Add(epoch, step);
  if (series.timed.seconds <= 0) return;
  series.Set(families_->timed_tokens_per_second, series.timed.tokens / series.timed.seconds);
}

void JobMetrics::Sweep(absl::Time now) {
  std::vector<std::string> expired;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [uid, series] : series_) {
      if (series->end.has_value() && *series->end + kRetention <= now) expired.push_back(uid);
    }
  }
  for (const std::string& uid : expired) Remove(uid);
}

void JobMetrics::Remove(const std::string& job_uid) {
  absl::MutexLock lock(&mutex_);
  const auto it = series_.find(job_uid);
  if (it == series_.end()) return;
  const Series& series = *it->second;
  if (series.info != nullptr) families_->info.Remove(series.info);
  if (series.state != nullptr) families_->state.Remove(series.state);
  for (const auto& [family, gauge] : series.gauges) family->Remove(gauge);
  if (series.tokens != nullptr) families_->tokens.Remove(series.tokens);
  if (series.step_seconds != nullptr) families_->step_seconds.Remove(series.step_seconds);
  series_.erase(it);
}

}  // namespace liger::server
