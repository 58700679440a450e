#include "worker/agent/agent_metrics.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/address.h"
#include "common/host_resources.h"
#include "prometheus/text_serializer.h"
#include "worker/agent/devices.h"
#include "worker/agent/log.h"
#include "worker/agent/version.h"

namespace liger::agent {
namespace {

constexpr absl::Duration kReadingInterval = absl::Seconds(5);

std::string PhaseLabel(trainer::v1::Phase phase) {
  absl::string_view name = trainer::v1::Phase_Name(phase);
  absl::ConsumePrefix(&name, "PHASE_");
  return std::string(name);
}

}  // namespace

AgentMetrics::Gauges& AgentMetrics::AddGauges(const std::string& name, const std::string& help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_);
}

AgentMetrics::AgentMetrics(const Identity& identity, Nvml* nvml) : nvml_(nvml) {
  AddGauges("liger_worker_info", "Always 1; who this worker is.")
      .Add({{"worker_id", identity.worker_id()}, {"version", kVersion}})
      .Set(1);
  connected_ = &AddGauges("liger_worker_session_connected",
                          "1 while the coordinator has welcomed this worker.")
                    .Add({});
  fenced_ = &AddGauges("liger_worker_fenced",
                       "1 while the lease is over: nothing is started or published.")
                 .Add({});
  draining_ = &AddGauges("liger_worker_draining", "1 while no new task is taken.").Add({});
  spooled_events_ =
      &AddGauges("liger_worker_spooled_events", "Events that are not acknowledged yet.").Add({});
  sessions_ended_ = &prometheus::BuildCounter()
                         .Name("liger_worker_sessions_ended_total")
                         .Help("Control streams that broke or were refused.")
                         .Register(*registry_)
                         .Add({});
  tasks_ = &AddGauges("liger_worker_tasks", "Running tasks by phase.");
  device_busy_ = &AddGauges("liger_worker_device_busy", "1 while a task holds the device.");
  device_failed_ = &AddGauges("liger_worker_device_failed",
                              "1 since the device failed; no task gets it (cordoned).");
  device_memory_ = &AddGauges("liger_worker_device_memory_bytes", "Memory of the device.");
  device_memory_used_ =
      &AddGauges("liger_worker_device_memory_used_bytes",
                 "Memory in use, by any process; of a CPU slot, its share of the host's.");
  device_utilization_ = &AddGauges("liger_worker_device_utilization_ratio",
                                   "Share of the last period in which a kernel ran.");
  device_power_ = &AddGauges("liger_worker_device_power_watts", "Power drawn.");
  device_temperature_ =
      &AddGauges("liger_worker_device_temperature_celsius", "Temperature of the device.");
}

absl::StatusOr<std::unique_ptr<AgentMetrics>> AgentMetrics::Create(const Options& options,
                                                                   const Identity& identity,
                                                                   Nvml* nvml) {
  std::unique_ptr<AgentMetrics> metrics(new AgentMetrics(identity, nvml));
  if (options.metrics_listen.empty()) return metrics;
  AgentMetrics* self = metrics.get();
  if (absl::Status s = CheckListenAddress(options.metrics_listen, "--metrics-listen"); !s.ok()) {
    return s;
  }
  auto server = HttpServer::Start(options.metrics_listen,
                                  {{"/metrics$", [self] { return self->Scrape(); }},
                                   {"/healthz$", [] { return HttpResponse{.body = "ok\n"}; }},
                                   {"/readyz$", [self] {
                                      return self->ready_
                                                 ? HttpResponse{.body = "ready\n"}
                                                 : HttpResponse{.code = 503, .body = "no lease\n"};
                                    }}});
  if (!server.ok()) return server.status();
  metrics->server_ = *std::move(server);
  LogInfo("metrics and health on port ", metrics->port());
  return metrics;
}

void AgentMetrics::Update(const Snapshot& snapshot, absl::Time now) {
  ready_ = snapshot.connected && !snapshot.fenced;
  connected_->Set(snapshot.connected);
  fenced_->Set(snapshot.fenced);
  draining_->Set(snapshot.draining);
  spooled_events_->Set(static_cast<double>(snapshot.spooled_events));
  for (int phase = trainer::v1::Phase_MIN; phase <= trainer::v1::Phase_MAX; ++phase) {
    const auto key = static_cast<trainer::v1::Phase>(phase);
    auto it = snapshot.tasks_by_phase.find(key);
    tasks_->Add({{"phase", PhaseLabel(key)}})
        .Set(it == snapshot.tasks_by_phase.end() ? 0 : it->second);
  }
  for (const DeviceUse& use : snapshot.devices) {
    device_busy_->Add({{"device", use.device.uuid()}}).Set(use.busy);
    device_failed_->Add({{"device", use.device.uuid()}}).Set(!use.device.fault().empty());
  }
  if (now < next_reading_) return;
  next_reading_ = now + kReadingInterval;
  UpdateHostMemory(snapshot.devices);
  for (const DeviceUse& use : snapshot.devices) UpdateDevice(use);
}

void AgentMetrics::UpdateHostMemory(const std::vector<DeviceUse>& devices) {
  const auto is_slot = [](const DeviceUse& use) {
    return use.device.kind() == v1::DEVICE_KIND_CPU;
  };
  const auto slots = std::count_if(devices.begin(), devices.end(), is_slot);
  const std::optional<int64_t> used = slots > 0 ? UsedMemoryBytes() : std::nullopt;
  if (!used.has_value()) return;
  for (const DeviceUse& use : devices) {
    if (!is_slot(use)) continue;
    device_memory_used_->Add({{"device", use.device.uuid()}})
        .Set(static_cast<double>(*used) / static_cast<double>(slots));
  }
}

void AgentMetrics::UpdateDevice(const DeviceUse& use) {
  const prometheus::Labels labels = {{"device", use.device.uuid()}};
  device_memory_->Add({{"device", use.device.uuid()}, {"model", use.device.model()}})
      .Set(static_cast<double>(use.device.memory_bytes()));
  if (nvml_ == nullptr || use.device.kind() != v1::DEVICE_KIND_CUDA) return;
  const GpuUsage usage = nvml_->Usage(use.device.uuid());
  const auto set = [&](Gauges* gauges, const auto& value) {
    if (value) gauges->Add(labels).Set(static_cast<double>(*value));
  };
  set(device_memory_used_, usage.memory_used_bytes);
  set(device_utilization_, usage.utilization_ratio);
  set(device_power_, usage.power_watts);
  set(device_temperature_, usage.temperature_celsius);
}

HttpResponse AgentMetrics::Scrape() const {
  return {.content_type = "text/plain; version=0.0.4",
          .body = prometheus::TextSerializer().Serialize(registry_->Collect())};
}

}  // namespace liger::agent
