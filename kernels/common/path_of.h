#ifndef LIGER_KERNELS_COMMON_PATH_OF_H_
#define LIGER_KERNELS_COMMON_PATH_OF_H_

#include "kernels/common/cpu.h"
#include "kernels/common/cuda.h"
#include "kernels/common/record.h"

namespace liger::kernels {

// Which of an op's own implementations takes tensors of this device and dtype.
inline Path PathOf(c10::Device device, c10::ScalarType dtype) {
  if (HasCpuLoops(device, dtype)) return Path::kCpu;
  return HasCudaKernels(device, dtype) ? Path::kCuda : Path::kAten;
}
inline Path PathOf(const at::Tensor& t) { return PathOf(t.device(), t.scalar_type()); }

// The same for ops over integers.
inline Path IntegerPathOf(c10::Device device) {
  if (device.is_cpu()) return Path::kCpu;
  if constexpr (kHasCuda) {
    if (device.is_cuda() && cuda::Supports(device)) return Path::kCuda;
  }
  return Path::kAten;
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_PATH_OF_H_
