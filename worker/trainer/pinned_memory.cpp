#include "worker/trainer/pinned_memory.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include "worker/trainer/error.h"

namespace liger::trainer {

at::Tensor PinnedMemory(int64_t numel, at::ScalarType dtype, at::Device device) {
  const at::TensorOptions options = at::TensorOptions(at::kCPU).dtype(dtype);
  try {
    return at::empty({numel}, options.pinned_memory(!device.is_cpu()));
  } catch (const c10::Error& error) {
    // CUDA calls it a device's error.
    throw TrainerError(liger::v1::FAILURE_CLASS_OOM_HOST,
                       "out of host memory (" + std::to_string(numel) + " " + c10::toString(dtype) +
                           " that a GPU copies to): " + error.what_without_backtrace());
  }
}

}  // namespace liger::trainer
