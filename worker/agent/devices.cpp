#include "worker/agent/devices.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/host_resources.h"

namespace liger::agent {

using worker::v1::DeviceInfo;

namespace {

// More threads than this do not help a rank whose work is on a GPU.
constexpr int kMaxThreadsBesideGpu = 16;

DeviceInfo CpuSlot(const std::string& worker_id, int index, int slots) {
  DeviceInfo slot;
  slot.set_uuid(absl::StrCat("CPU-", worker_id, "-", index));
  slot.set_kind(v1::DEVICE_KIND_CPU);
  slot.set_memory_bytes(AvailableMemoryBytes() / slots);
  slot.set_model(absl::StrCat("CPU slot of ", std::max(1, AvailableCpus() / slots), " cores"));
  return slot;
}

DeviceInfo Gpu(const GpuInfo& info) {
  DeviceInfo gpu;
  gpu.set_uuid(info.uuid);
  gpu.set_kind(v1::DEVICE_KIND_CUDA);
  gpu.set_memory_bytes(info.memory_bytes);
  gpu.set_model(info.name);
  return gpu;
}

// A number, or the beginning of a UUID.
std::vector<const GpuInfo*> Named(const std::vector<GpuInfo>& gpus, const std::string& name) {
  std::vector<const GpuInfo*> named;
  unsigned number = 0;
  const bool is_number = absl::SimpleAtoi(name, &number);
  for (const GpuInfo& gpu : gpus) {
    if (is_number ? gpu.number == number : gpu.uuid.starts_with(name)) named.push_back(&gpu);
  }
  return named;
}

// What may be a GPU of this host that is not there.
bool IsNumberOrUuid(const std::string& name) {
  unsigned number = 0;
  return absl::SimpleAtoi(name, &number) || name.starts_with("GPU-");
}

}  // namespace

absl::StatusOr<std::vector<GpuInfo>> VisibleGpus(const std::vector<GpuInfo>& gpus,
                                                 const char* variable,
                                                 std::vector<std::string>* missing) {
  if (variable == nullptr || gpus.empty()) return gpus;
  std::vector<GpuInfo> visible;
  std::string why;  // an entry is none of them
  for (const auto entry : absl::StrSplit(variable, ',', absl::SkipWhitespace())) {
    const std::string name(absl::StripAsciiWhitespace(entry));
    if (name == "-1" || name == "NoDevFiles") break;  // as CUDA has it: none from here on
    const std::vector<const GpuInfo*> named = Named(gpus, name);
    if (named.size() != 1) {
      why = absl::StrCat("CUDA_VISIBLE_DEVICES names '", name, "', which is ",
                         named.empty() ? "none" : "more than one", " of this host's ", gpus.size(),
                         " GPUs; name them by number or UUID as nvidia-smi -L lists them, or unset "
                         "it for all of them");
      if (!named.empty() || !IsNumberOrUuid(name)) return absl::InvalidArgumentError(why);
      missing->push_back(name);
      continue;
    }
    const auto same = [&](const GpuInfo& gpu) { return gpu.uuid == named[0]->uuid; };
    if (std::ranges::none_of(visible, same)) visible.push_back(*named[0]);
  }
  if (visible.empty() && !missing->empty()) return absl::InvalidArgumentError(why);
  return visible;
}

std::vector<DeviceInfo> ProbeDevices(const std::vector<GpuInfo>& gpus, const std::string& worker_id,
                                     int cpu_slots) {
  std::vector<DeviceInfo> devices;
  for (const GpuInfo& gpu : gpus) devices.push_back(Gpu(gpu));
  if (cpu_slots < 0) cpu_slots = devices.empty() ? 1 : 0;
  for (int i = 0; i < cpu_slots; ++i) devices.push_back(CpuSlot(worker_id, i, cpu_slots));
  return devices;
}

DeviceLedger::DeviceLedger(std::vector<DeviceInfo> devices) : devices_(std::move(devices)) {}

absl::Status DeviceLedger::Reserve(const std::string& task, const std::vector<std::string>& uuids) {
  for (const std::string& uuid : uuids) {
    if (Find(uuid) == nullptr) {
      return absl::NotFoundError(absl::StrCat("device ", uuid, " is not on this worker"));
    }
    if (const std::string& fault = Find(uuid)->fault(); !fault.empty()) {
      return absl::FailedPreconditionError(absl::StrCat("device ", uuid, " failed: ", fault));
    }
    const std::string holder = Holder(uuid);
    if (!holder.empty() && holder != task) {
      return absl::ResourceExhaustedError(
          absl::StrCat("device ", uuid, " is held by task ", holder));
    }
  }
  for (const std::string& uuid : uuids) holder_[uuid] = task;
  return absl::OkStatus();
}

void DeviceLedger::Release(const std::string& task) {
  std::erase_if(holder_, [&](const auto& entry) { return entry.second == task; });
}

bool DeviceLedger::NoteFault(const std::string& uuid, const std::string& fault) {
  for (DeviceInfo& device : devices_) {
    if (device.uuid() != uuid || !device.fault().empty()) continue;
    device.set_fault(fault);
    return true;
  }
  return false;
}

const DeviceInfo* DeviceLedger::Find(const std::string& uuid) const {
  for (const DeviceInfo& device : devices_) {
    if (device.uuid() == uuid) return &device;
  }
  return nullptr;
}

std::string DeviceLedger::Holder(const std::string& uuid) const {
  auto it = holder_.find(uuid);
  return it == holder_.end() ? "" : it->second;
}

int DeviceLedger::ThreadsPerRank() const {
  const int ranks = std::max<int>(1, static_cast<int>(devices_.size()));
  const int threads = std::max(1, AvailableCpus() / ranks);
  const bool gpus = std::any_of(devices_.begin(), devices_.end(), [](const DeviceInfo& d) {
    return d.kind() == v1::DEVICE_KIND_CUDA;
  });
  return gpus ? std::min(threads, kMaxThreadsBesideGpu) : threads;
}

}  // namespace liger::agent
