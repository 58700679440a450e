#include "worker/trainer/loop/device.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <dlfcn.h>
#include <malloc.h>
#include <sys/resource.h>

#include <filesystem>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

constexpr char kCudaLibrary[] = "libtorch_cuda.so";

// Folder of the libtorch_cpu that this process runs on.
std::filesystem::path TorchLibraryFolder() {
  Dl_info info;
  const auto* symbol = reinterpret_cast<const void*>(&at::globalContext);
  if (dladdr(symbol, &info) == 0 || info.dli_fname == nullptr) return {};
  return std::filesystem::path(info.dli_fname).parent_path();
}

void LoadCudaBackend() {
  // Beside libtorch_cpu first: the two must be of one build.
  const std::string beside = (TorchLibraryFolder() / kCudaLibrary).string();
  if (dlopen(beside.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr) return;
  const std::string first_error = dlerror();
  if (dlopen(kCudaLibrary, RTLD_NOW | RTLD_GLOBAL) != nullptr) return;
  throw ConfigError("resources.device_kind: CUDA was asked for, but " + std::string(kCudaLibrary) +
                        " cannot be loaded: " + first_error,
                    "install the CUDA build of torch with its nvidia-* packages on this host, or "
                    "use device_kind CPU")
      .Field("resources.device_kind");
}

// Name of a visible device from the driver; "" when it does not tell.
std::string CudaDeviceName(int ordinal) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == nullptr) return "";
  using DeviceGetName = int (*)(char*, int, int);
  const auto get_name = reinterpret_cast<DeviceGetName>(dlsym(driver, "cuDeviceGetName"));
  char name[256] = {};
  if (get_name == nullptr || get_name(name, sizeof(name) - 1, ordinal) != 0) return "";
  return name;
}

// Activations come and go a thousand times a step. glibc would hand each large
// one back to the kernel and have its pages filled with zeros anew. The agent
// adds huge pages (GLIBC_TUNABLES, which is read before main).
void KeepFreedMemory() {
  mallopt(M_MMAP_MAX, 0);  // M_MMAP_THRESHOLD goes to 32 MiB only, less than a head's gradient
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

}  // namespace

Device Device::Open(liger::v1::DeviceKind kind, int local_rank) {
  if (kind != liger::v1::DEVICE_KIND_CUDA) {
    KeepFreedMemory();
    return Device(c10::Device(c10::kCPU), "cpu");
  }
  // Pinned memory (checkpoints' copies) is touched by several threads before it is registered,
  // which holds up neither them nor calls of CUDA for as long as cudaHostAlloc does.
  setenv("PYTORCH_CUDA_ALLOC_CONF",
         "pinned_use_cuda_host_register:True,pinned_num_register_threads:8", /*overwrite=*/0);
  LoadCudaBackend();
  const int count = at::accelerator::deviceCount();
  if (local_rank >= count) {
    throw ConfigError("resources.device_kind: CUDA device " + std::to_string(local_rank) +
                          " was asked for, " + std::to_string(count) + " are visible",
                      "check nvidia-smi and CUDA_VISIBLE_DEVICES, or use device_kind CPU")
        .Field("resources.device_kind");
  }
  const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(local_rank));
  at::globalContext().lazyInitDevice(c10::kCUDA);
  at::accelerator::setDeviceIndex(device.index());
  // cuDNN's attention plans each shape anew (40 to 70 ms), and decoding meets a
  // new length at every token; training calls its attention kernels directly.
  at::globalContext().setSDPUseCuDNN(false);
  return Device(device, device.str() + " " + CudaDeviceName(local_rank));
}

void Device::Synchronize() const {
  if (on_gpu()) at::accelerator::synchronizeDevice(device_.index());
}

std::map<std::string, int64_t> Device::PeakMemoryBytes() const {
  if (!on_gpu()) {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return {{"rss", int64_t{usage.ru_maxrss} * 1024}};
  }
  const auto stats = at::accelerator::getDeviceStats(device_.index());
  constexpr auto kAggregate = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return {{"allocated", stats.allocated_bytes[kAggregate].peak},
          {"reserved", stats.reserved_bytes[kAggregate].peak}};
}

void UseDeterministicAlgorithms() {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
}

}  // namespace liger::trainer
