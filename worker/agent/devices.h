#ifndef LIGER_WORKER_AGENT_DEVICES_H_
#define LIGER_WORKER_AGENT_DEVICES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/nvml.h"

namespace liger::agent {

// Those of a host's GPUs that CUDA_VISIBLE_DEVICES leaves to this worker: all where `variable` is
// null, else by nvidia-smi's number or by UUID, which may be cut short, none where it is empty, -1
// or NoDevFiles. Numbers and UUIDs that are none of them (one that has fallen off the bus) are
// `missing`. INVALID_ARGUMENT naming an entry where it is anything else, or where none is left.
absl::StatusOr<std::vector<GpuInfo>> VisibleGpus(const std::vector<GpuInfo>& gpus,
                                                 const char* variable,
                                                 std::vector<std::string>* missing);

// The devices of a worker: its GPUs, or, where there is none, `cpu_slots`
// slots "CPU-<worker_id>-<i>" that share the processors and the memory. With
// GPUs, slots exist only when asked for. cpu_slots < 0: the default (1, or 0
// beside GPUs).
std::vector<worker::v1::DeviceInfo> ProbeDevices(const std::vector<GpuInfo>& gpus,
                                                 const std::string& worker_id, int cpu_slots);

// Which task holds which device. A device is free again only when its task's
// processes are known to be gone.
class DeviceLedger {
 public:
  explicit DeviceLedger(std::vector<worker::v1::DeviceInfo> devices);

  // All or nothing. NOT_FOUND for an unknown device, RESOURCE_EXHAUSTED for one that
  // another task holds, FAILED_PRECONDITION for one that failed, all by name.
  // Reserving again is fine.
  absl::Status Reserve(const std::string& task, const std::vector<std::string>& uuids);
  void Release(const std::string& task);
  // The device failed (DeviceInfo.fault). False when that was known.
  bool NoteFault(const std::string& uuid, const std::string& fault);

  const std::vector<worker::v1::DeviceInfo>& devices() const { return devices_; }
  // nullptr when there is no such device.
  const worker::v1::DeviceInfo* Find(const std::string& uuid) const;
  // Empty: free.
  std::string Holder(const std::string& uuid) const;
  // OMP_NUM_THREADS for one rank: the processors, divided among the devices.
  int ThreadsPerRank() const;

 private:
  std::vector<worker::v1::DeviceInfo> devices_;
  std::map<std::string, std::string> holder_;  // device uuid to task
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_DEVICES_H_
