#ifndef LIGER_SERVER_METRICS_EXPERIMENT_METRICS_H_
#define LIGER_SERVER_METRICS_EXPERIMENT_METRICS_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "liger/v1/experiments.pb.h"
#include "liger/v1/job.pb.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"
#include "server/metrics/timed_steps.h"

namespace liger::server {

// What the logged steps of a job that is over come to.
struct StepSums {
  TimedSteps timed;
  int64_t count = 0;  // of all attempts
  double seconds = 0;

  void Add(int64_t epoch, const liger::trainer::v1::Step& step);
};

// The liger_experiment_job_* series: jobs that an experiment took from an earlier one.
// The series of these jobs went after their end and say the earlier experiment's name
// (JobMetrics has the jobs that an experiment runs itself). They are there while the
// experiment runs and JobMetrics::kRetention longer, so their number is bounded by the
// jobs of such experiments. Thread-safe.
class ExperimentMetrics {
 public:
  explicit ExperimentMetrics(prometheus::Registry* registry);
  ~ExperimentMetrics();

  // An experiment after a change. Returns the indices of the jobs that it took and of
  // which nothing is known here yet: Take them. None of one that ended kRetention ago.
  std::vector<int> Update(const liger::v1::Experiment& experiment, absl::Time now)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // What the job came to, at the point of this experiment's grid.
  void Take(const std::string& experiment_uid, const std::string& point, const liger::v1::Job& job,
            const StepSums& steps) ABSL_LOCKS_EXCLUDED(mutex_);

  // Removes the series of experiments that ended long enough ago.
  void Sweep(absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Family = prometheus::Family<prometheus::Gauge>;
  struct Families;
  struct Series {
    std::string name;
    std::set<std::string> taken;  // job uids
    std::vector<std::pair<Family*, prometheus::Gauge*>> gauges;
    absl::Time end = absl::InfiniteFuture();
  };

  absl::Mutex mutex_;
  const std::unique_ptr<Families> families_;
  std::map<std::string, Series> series_ ABSL_GUARDED_BY(mutex_);  // by experiment's uid
};

}  // namespace liger::server

#endif  // LIGER_SERVER_METRICS_EXPERIMENT_METRICS_H_
