#include "server/metrics/fleet_metrics.h"

#include "prometheus/family.h"

namespace liger::server {
namespace {

using liger::v1::JobStatus;
using prometheus::Family;
using prometheus::Gauge;

template <typename Key>
void SetAll(const std::map<Key, Gauge*>& gauges, const auto& counts) {
  for (const auto& [key, gauge] : gauges) {
    const auto it =
        counts.find(static_cast<typename std::decay_t<decltype(counts)>::key_type>(key));
    gauge->Set(it == counts.end() ? 0 : it->second);
  }
}

}  // namespace

FleetMetrics::FleetMetrics(prometheus::Registry* registry) {
  Family<Gauge>& jobs = prometheus::BuildGauge()
                            .Name("liger_jobs")
                            .Help("Jobs that are not deleted, by state.")
                            .Register(*registry);
  for (int state = JobStatus::VALIDATING; state <= JobStatus::State_MAX; ++state) {
    jobs_[state] =
        &jobs.Add({{"state", JobStatus::State_Name(static_cast<JobStatus::State>(state))}});
  }
  Family<Gauge>& workers = prometheus::BuildGauge()
                               .Name("liger_workers")
                               .Help("Known workers, by state.")
                               .Register(*registry);
  for (const char* state : {"READY", "LOST", "DRAINING", "UNFIT"}) {
    workers_[state] = &workers.Add({{"state", state}});
  }
  Family<Gauge>& gpus = prometheus::BuildGauge()
                            .Name("liger_gpus")
                            .Help("GPUs of known workers, by state.")
                            .Register(*registry);
  for (const char* state : {"free", "allocated", "cordoned", "lost"}) {
    gpus_[state] = &gpus.Add({{"state", state}});
  }
  oldest_wait_ = &prometheus::BuildGauge()
                      .Name("liger_queue_oldest_wait_seconds")
                      .Help("Time that the longest queued job has waited; 0: none waits.")
                      .Register(*registry)
                      .Add({});
  queue_wait_ = &prometheus::BuildHistogram()
                     .Name("liger_queue_wait_seconds")
                     .Help("Time from a job's queueing to the start of its attempt.")
                     .Register(*registry)
                     .Add({}, prometheus::Histogram::BucketBoundaries{0.1, 0.5, 1, 5, 15, 60, 300,
                                                                      900, 3600, 14400, 86400});
}

void FleetMetrics::SetJobs(const std::map<JobStatus::State, int>& count_by_state) {
  SetAll(jobs_, count_by_state);
}

void FleetMetrics::SetWorkers(const std::map<std::string, int>& count_by_state) {
  SetAll(workers_, count_by_state);
}

void FleetMetrics::SetGpus(const std::map<std::string, int>& count_by_state) {
  SetAll(gpus_, count_by_state);
}

void FleetMetrics::SetOldestWait(absl::Duration wait) {
  oldest_wait_->Set(absl::ToDoubleSeconds(wait));
}

void FleetMetrics::ObserveQueueWait(absl::Duration wait) {
  queue_wait_->Observe(absl::ToDoubleSeconds(wait));
}

}  // namespace liger::server
