#ifndef LIGER_WORKER_AGENT_AGENT_METRICS_H_
#define LIGER_WORKER_AGENT_AGENT_METRICS_H_

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "liger/worker/v1/worker.pb.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"
#include "worker/agent/http_server.h"
#include "worker/agent/identity.h"
#include "worker/agent/nvml.h"
#include "worker/agent/options.h"

namespace liger::agent {

// The agent's own series (liger_worker_*; a job's series are the
// coordinator's) and its health, over HTTP: /metrics; /healthz, 200 while the
// process lives; /readyz, 200 while it holds the lease.
class AgentMetrics {
 public:
  struct DeviceUse {
    worker::v1::DeviceInfo device;
    bool busy = false;
  };
  struct Snapshot {
    bool connected = false;
    bool fenced = false;
    bool draining = false;
    size_t spooled_events = 0;
    std::vector<DeviceUse> devices;
    std::map<trainer::v1::Phase, int> tasks_by_phase;
  };

  // `nvml` may be null, and is used only from Update().
  static absl::StatusOr<std::unique_ptr<AgentMetrics>> Create(const Options& options,
                                                              const Identity& identity, Nvml* nvml);

  // From the agent's thread, often; costly readings are taken every 5 s.
  void Update(const Snapshot& snapshot, absl::Time now);
  void SessionEnded() { sessions_ended_->Increment(); }
  int port() const { return server_ ? server_->port() : 0; }

 private:
  using Gauges = prometheus::Family<prometheus::Gauge>;

  AgentMetrics(const Identity& identity, Nvml* nvml);
  Gauges& AddGauges(const std::string& name, const std::string& help);
  void UpdateHostMemory(const std::vector<DeviceUse>& devices);
  void UpdateDevice(const DeviceUse& use);
  HttpResponse Scrape() const;

  Nvml* const nvml_;
  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  prometheus::Gauge* connected_;
  prometheus::Gauge* fenced_;
  prometheus::Gauge* draining_;
  prometheus::Gauge* spooled_events_;
  prometheus::Counter* sessions_ended_;
  Gauges* tasks_;
  Gauges* device_busy_;
  Gauges* device_failed_;
  Gauges* device_memory_;
  Gauges* device_memory_used_;
  Gauges* device_utilization_;
  Gauges* device_power_;
  Gauges* device_temperature_;
  absl::Time next_reading_ = absl::InfinitePast();
  std::atomic<bool> ready_{false};
  // Last, so that it stops first.
  std::unique_ptr<HttpServer> server_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_AGENT_METRICS_H_
