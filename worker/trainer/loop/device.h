#ifndef LIGER_WORKER_TRAINER_LOOP_DEVICE_H_
#define LIGER_WORKER_TRAINER_LOOP_DEVICE_H_

#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <string>

#include "liger/v1/job_spec.pb.h"

namespace liger::trainer {

// The device that this rank computes on. The program links only libtorch_cpu;
// a CUDA device loads libtorch_cuda at run time and is then used through
// PyTorch's device-independent interfaces, so that one program serves both.
class Device {
 public:
  // Call before anything asks PyTorch about accelerators: it caches "there is
  // none". Throws TrainerError (CONFIG) when CUDA is asked for and libtorch_cuda,
  // the driver or the device is not there.
  static Device Open(liger::v1::DeviceKind kind, int local_rank);

  c10::Device torch() const { return device_; }
  bool on_gpu() const { return device_.is_cuda(); }
  // "cpu", "cuda:0 NVIDIA H100 80GB HBM3".
  const std::string& description() const { return description_; }

  // Waits for the work queued so far; nothing on a CPU.
  void Synchronize() const;

  // Peaks since the start of the process: "rss" on a CPU; "allocated" and
  // "reserved" (PyTorch's caching allocator) on a GPU. Bytes.
  std::map<std::string, int64_t> PeakMemoryBytes() const;

 private:
  Device(c10::Device device, std::string description)
      : device_(device), description_(std::move(description)) {}

  c10::Device device_;
  std::string description_;
};

// Asks PyTorch for deterministic algorithms on every device (training.deterministic).
// Call before Device::Open: cuBLAS reads its setting once.
void UseDeterministicAlgorithms();

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_DEVICE_H_
