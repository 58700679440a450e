#include "worker/agent/nvml.h"

#include <dlfcn.h>

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace liger::agent {
namespace {

// The part of NVML's ABI that is used here (NVML API reference; stable since
// version 1). Every function returns 0 for success.
using NvmlDevice = void*;
struct NvmlMemory {
  unsigned long long total, free, used;
};
struct NvmlUtilization {
  unsigned int gpu, memory;  // percent
};
constexpr unsigned kNameBytes = 96;
constexpr int kTemperatureGpu = 0;
constexpr int kClockSm = 1;
constexpr int kClockMemory = 2;
constexpr int kNotFound = 6;
constexpr int kGpuIsLost = 15;
constexpr int kUncorrected = 1;  // of nvmlMemoryErrorType_t
constexpr int kSinceBoot = 0;    // the volatile counter of nvmlEccCounterType_t
constexpr unsigned long long kXidEvent = 8;
using NvmlEventSet = void*;
struct NvmlEvent {
  NvmlDevice device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};
// Xids that a program brings on itself: the GPU is well (NVIDIA's Xid catalog; the
// same list as in NVIDIA's k8s-device-plugin).
constexpr unsigned long long kProgramsOwnXids[] = {13, 31, 43, 45, 68, 109};

class LoadedNvml : public Nvml {
 public:
  explicit LoadedNvml(void* library) : library_(library) {}
  ~LoadedNvml() override {
    if (events_ != nullptr && free_events_ != nullptr) free_events_(events_);
    if (initialised_ && shutdown_ != nullptr) shutdown_();
    dlclose(library_);
  }

  bool Init() {
    int (*init)() = nullptr;
    const bool found =
        Find("nvmlInit_v2", init) && Find("nvmlShutdown", shutdown_) &&
        Find("nvmlDeviceGetCount_v2", count_) && Find("nvmlDeviceGetHandleByIndex_v2", by_index_) &&
        Find("nvmlDeviceGetHandleByUUID", by_uuid_) && Find("nvmlDeviceGetUUID", uuid_) &&
        Find("nvmlDeviceGetName", name_) && Find("nvmlDeviceGetMemoryInfo", memory_);
    Find("nvmlDeviceGetUtilizationRates", utilization_);
    Find("nvmlDeviceGetPowerUsage", power_);
    Find("nvmlDeviceGetTemperature", temperature_);
    Find("nvmlSystemGetDriverVersion", driver_);
    Find("nvmlDeviceGetClockInfo", clock_);
    Find("nvmlDeviceGetMaxClockInfo", max_clock_);
    Find("nvmlDeviceGetEnforcedPowerLimit", power_limit_);
    Find("nvmlDeviceGetTotalEccErrors", ecc_errors_);
    Find("nvmlEventSetCreate", create_events_);
    Find("nvmlEventSetFree", free_events_);
    Find("nvmlDeviceRegisterEvents", register_events_);
    Find("nvmlEventSetWait_v2", wait_event_);
    initialised_ = found && init() == 0;
    if (initialised_) WatchFaults();
    return initialised_;
  }

  std::vector<GpuInfo> Gpus() override {
    std::vector<GpuInfo> gpus;
    unsigned count = 0;
    if (count_(&count) != 0) return gpus;
    for (unsigned i = 0; i < count; ++i) {
      NvmlDevice device = nullptr;
      char uuid[kNameBytes] = "", name[kNameBytes] = "";
      NvmlMemory memory{};
      if (by_index_(i, &device) != 0 || uuid_(device, uuid, sizeof(uuid)) != 0) continue;
      name_(device, name, sizeof(name));
      memory_(device, &memory);
      gpus.push_back({uuid, name, static_cast<int64_t>(memory.total), i});
    }
    return gpus;
  }

  GpuUsage Usage(const std::string& uuid) override {
    GpuUsage usage;
    NvmlDevice device = nullptr;
    if (by_uuid_(uuid.c_str(), &device) != 0) return usage;
    NvmlMemory memory{};
    if (memory_(device, &memory) == 0) usage.memory_used_bytes = static_cast<int64_t>(memory.used);
    NvmlUtilization utilization{};
    if (utilization_ && utilization_(device, &utilization) == 0) {
      usage.utilization_ratio = utilization.gpu / 100.0;
    }
    unsigned value = 0;
    if (power_ && power_(device, &value) == 0) usage.power_watts = value / 1000.0;
    if (temperature_ && temperature_(device, kTemperatureGpu, &value) == 0) {
      usage.temperature_celsius = value;
    }
    return usage;
  }

  std::map<std::string, std::string> Facts(const std::string& uuid) override {
    std::map<std::string, std::string> facts;
    char driver[kNameBytes] = "";
    if (driver_ && driver_(driver, sizeof(driver)) == 0) facts["nvidia-driver"] = driver;
    NvmlDevice device = nullptr;
    if (by_uuid_(uuid.c_str(), &device) != 0) return facts;
    unsigned value = 0;
    const auto clock = [&](auto function, int type, const char* name) {
      if (function && function(device, type, &value) == 0) {
        facts[name] = absl::StrCat(value, " MHz");
      }
    };
    clock(clock_, kClockSm, "device/sm clock");
    clock(max_clock_, kClockSm, "device/max sm clock");
    clock(clock_, kClockMemory, "device/memory clock");
    clock(max_clock_, kClockMemory, "device/max memory clock");
    if (power_limit_ && power_limit_(device, &value) == 0) {
      facts["device/power limit"] = absl::StrCat(value / 1000, " W");
    }
    const GpuUsage usage = Usage(uuid);
    if (usage.power_watts) facts["device/power"] = absl::StrFormat("%.0f W", *usage.power_watts);
    if (usage.temperature_celsius) {
      facts["device/temperature"] = absl::StrFormat("%.0f C", *usage.temperature_celsius);
    }
    return facts;
  }

  std::map<std::string, std::string> Faults() override {
    ReadXids();
    for (const auto& [uuid, before] : ecc_before_) {
      if (faults_.contains(uuid)) continue;
      if (std::string fault = FaultOf(uuid, before); !fault.empty()) faults_[uuid] = fault;
    }
    return faults_;
  }

 private:
  // What is known of each GPU when all is well.
  void WatchFaults() {
    const bool has_events = create_events_ && free_events_ && register_events_ && wait_event_;
    if (has_events && create_events_(&events_) != 0) events_ = nullptr;
    for (const GpuInfo& gpu : Gpus()) {
      NvmlDevice device = nullptr;
      if (by_uuid_(gpu.uuid.c_str(), &device) != 0) continue;
      ecc_before_[gpu.uuid] = EccErrors(device);
      if (events_ != nullptr) register_events_(device, kXidEvent, events_);
    }
  }

  unsigned long long EccErrors(NvmlDevice device) const {
    unsigned long long count = 0;
    const bool known = ecc_errors_ && ecc_errors_(device, kUncorrected, kSinceBoot, &count) == 0;
    return known ? count : 0;
  }

  std::string FaultOf(const std::string& uuid, unsigned long long ecc_before) const {
    NvmlDevice device = nullptr;
    NvmlMemory memory{};
    const int found = by_uuid_(uuid.c_str(), &device);
    if (found == kGpuIsLost || found == kNotFound ||
        (found == 0 && memory_(device, &memory) == kGpuIsLost)) {
      return "fallen off the bus (its driver says that it is lost)";
    }
    const unsigned long long ecc = found == 0 ? EccErrors(device) : 0;
    if (ecc <= ecc_before) return "";
    return absl::StrCat(ecc - ecc_before, " uncorrectable ECC error",
                        ecc - ecc_before == 1 ? "" : "s", " in its memory");
  }

  void ReadXids() {
    NvmlEvent event{};
    while (events_ != nullptr && wait_event_(events_, &event, /*timeout_ms=*/0) == 0) {
      char uuid[kNameBytes] = "";
      const bool own = std::find(std::begin(kProgramsOwnXids), std::end(kProgramsOwnXids),
                                 event.data) != std::end(kProgramsOwnXids);
      if (event.type != kXidEvent || own || uuid_(event.device, uuid, sizeof(uuid)) != 0) continue;
      faults_.try_emplace(uuid, absl::StrCat("Xid ", event.data));
    }
  }

  template <typename Function>
  bool Find(const char* symbol, Function& out) {
    out = reinterpret_cast<Function>(dlsym(library_, symbol));
    return out != nullptr;
  }

  void* library_;
  bool initialised_ = false;
  int (*shutdown_)() = nullptr;
  int (*count_)(unsigned*) = nullptr;
  int (*by_index_)(unsigned, NvmlDevice*) = nullptr;
  int (*by_uuid_)(const char*, NvmlDevice*) = nullptr;
  int (*uuid_)(NvmlDevice, char*, unsigned) = nullptr;
  int (*name_)(NvmlDevice, char*, unsigned) = nullptr;
  int (*memory_)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*utilization_)(NvmlDevice, NvmlUtilization*) = nullptr;
  int (*power_)(NvmlDevice, unsigned*) = nullptr;
  int (*temperature_)(NvmlDevice, int, unsigned*) = nullptr;
  int (*driver_)(char*, unsigned) = nullptr;
  int (*clock_)(NvmlDevice, int, unsigned*) = nullptr;
  int (*max_clock_)(NvmlDevice, int, unsigned*) = nullptr;
  int (*power_limit_)(NvmlDevice, unsigned*) = nullptr;
  int (*ecc_errors_)(NvmlDevice, int, int, unsigned long long*) = nullptr;
  int (*create_events_)(NvmlEventSet*) = nullptr;
  int (*free_events_)(NvmlEventSet) = nullptr;
  int (*register_events_)(NvmlDevice, unsigned long long, NvmlEventSet) = nullptr;
  int (*wait_event_)(NvmlEventSet, NvmlEvent*, unsigned) = nullptr;
  NvmlEventSet events_ = nullptr;
  std::map<std::string, unsigned long long> ecc_before_;  // by UUID, at Load
  std::map<std::string, std::string> faults_;
};

}  // namespace

std::unique_ptr<Nvml> Nvml::Load() {
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  auto nvml = std::make_unique<LoadedNvml>(library);
  if (!nvml->Init()) return nullptr;
  return nvml;
}

}  // namespace liger::agent
