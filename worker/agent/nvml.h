#ifndef LIGER_WORKER_AGENT_NVML_H_
#define LIGER_WORKER_AGENT_NVML_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace liger::agent {

struct GpuInfo {
  std::string uuid;  // "GPU-..."
  std::string name;
  int64_t memory_bytes = 0;
  unsigned number = 0;  // nvidia-smi's; those of GPUs that do not answer are left out
};

// What a GPU does now. Fields that the driver does not report stay empty.
struct GpuUsage {
  std::optional<int64_t> memory_used_bytes;
  std::optional<double> utilization_ratio;
  std::optional<double> power_watts;
  std::optional<double> temperature_celsius;
};

// NVIDIA's management library, loaded at run time so that the agent starts on
// hosts without a driver. Not thread-safe.
class Nvml {
 public:
  // nullptr when there is no driver or it does not answer.
  static std::unique_ptr<Nvml> Load();
  virtual ~Nvml() = default;

  virtual std::vector<GpuInfo> Gpus() = 0;
  virtual GpuUsage Usage(const std::string& uuid) = 0;
  // What a run should be able to prove of its device, by name, as far as the
  // driver tells: "nvidia-driver", and with "device/" before it what may change:
  // clocks now and at most, power and its limit, temperature.
  virtual std::map<std::string, std::string> Facts(const std::string& uuid) = 0;
  // GPUs that failed since Load, and how, by UUID: a critical Xid that is not the
  // program's own doing, uncorrectable ECC errors, or fallen off the bus.
  virtual std::map<std::string, std::string> Faults() { return {}; }
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_NVML_H_
