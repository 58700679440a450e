#ifndef LIGER_SERVER_METRICS_FLEET_METRICS_H_
#define LIGER_SERVER_METRICS_FLEET_METRICS_H_

#include <map>
#include <string>

#include "absl/time/time.h"
#include "liger/v1/job.pb.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace liger::server {

// The queue and the fleet as a whole. Every state of a family is present from
// the start, as 0, so that rates and alerts need no `or vector(0)`.
class FleetMetrics {
 public:
  explicit FleetMetrics(prometheus::Registry* registry);

  void SetJobs(const std::map<liger::v1::JobStatus::State, int>& count_by_state);
  // States: READY, LOST, DRAINING.
  void SetWorkers(const std::map<std::string, int>& count_by_state);
  // States: free, allocated, lost (on a worker that is not there).
  void SetGpus(const std::map<std::string, int>& count_by_state);
  // Of the jobs that are queued now, the one that has waited longest.
  void SetOldestWait(absl::Duration wait);
  // From a job's queueing to the start of its attempt.
  void ObserveQueueWait(absl::Duration wait);

 private:
  std::map<int, prometheus::Gauge*> jobs_;
  std::map<std::string, prometheus::Gauge*> workers_;
  std::map<std::string, prometheus::Gauge*> gpus_;
  prometheus::Gauge* oldest_wait_;
  prometheus::Histogram* queue_wait_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_METRICS_FLEET_METRICS_H_
