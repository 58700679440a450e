#ifndef LIGER_SERVER_COORDINATOR_METRICS_FEED_H_
#define LIGER_SERVER_COORDINATOR_METRICS_FEED_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/fleet/fleet.h"
#include "server/metrics/experiment_metrics.h"
#include "server/metrics/fleet_metrics.h"
#include "server/metrics/job_metrics.h"
#include "server/store/store.h"

namespace liger::server {

// Keeps the metrics in step with the store.
class MetricsFeed {
 public:
  // All outlive the feed.
  MetricsFeed(Store* store, JobMetrics* jobs, ExperimentMetrics* experiments, FleetMetrics* fleet)
      : store_(store), jobs_(jobs), experiments_(experiments), fleet_(fleet) {}

  // Brings back the series of jobs that are not over, or not for long (their
  // counters and histograms go on from what is stored), and of such experiments. Blocks; call
  // before serving.
  absl::Status Resume() ABSL_LOCKS_EXCLUDED(mutex_);

  void OnChanges(const std::vector<JobChange>& changes) ABSL_LOCKS_EXCLUDED(mutex_);

  // An experiment as it was saved: brings the series of the jobs that it has taken.
  void OnExperiment(const liger::v1::Experiment& experiment);

  // Counts of jobs, workers and GPUs, and series whose time is over. Call
  // every second or so. `fleet` outlives the store's reads.
  void Refresh(const Fleet& fleet) ABSL_LOCKS_EXCLUDED(mutex_);

  // When a Refresh last heard from the store.
  absl::Duration store_answered() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Step by step, so that a long history is never held whole.
  void ResumeJob(const ReadView& view, const JobRow& row, absl::Time now)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Duration OldestWait(absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);

  Store* const store_;
  JobMetrics* const jobs_;
  ExperimentMetrics* const experiments_;
  FleetMetrics* const fleet_;

  absl::Mutex mutex_;
  std::map<std::string, int64_t> queued_us_ ABSL_GUARDED_BY(mutex_);  // by job uid
  absl::Duration store_answered_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
};

}  // namespace liger::server

#endif  // LIGER_SERVER_COORDINATOR_METRICS_FEED_H_
