#include "worker/trainer/pinned_memory.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include "worker/trainer/error.h"

namespace liger::trainer {
namespace {

TrainerError NoMoreMemory(int64_t numel, at::ScalarType dtype, const c10::Error& error) {
  return TrainerError(liger::v1::FAILURE_CLASS_OOM_HOST,
                      "out of host memory (" + std::to_string(numel) + " " + c10::toString(dtype) +
                          " that a GPU copies to): " + error.what_without_backtrace());
}

}  // namespace

at::Tensor PinnedMemory(int64_t numel, at::ScalarType dtype, at::Device device) {
  const at::TensorOptions options = at::TensorOptions(at::kCPU).dtype(dtype);
  if (device.is_cpu()) return at::empty({numel}, options);
  try {
    return at::empty({numel}, options.pinned_memory(true));
  } catch (const c10::OutOfMemoryError& error) {
    throw NoMoreMemory(numel, dtype, error);
  } catch (const c10::AcceleratorError& error) {
    // What an earlier operation failed of may come out here, too.
    if (error.get_error_code() != kCudaErrorMemoryAllocation) throw;
    throw NoMoreMemory(numel, dtype, error);
  }
}

}  // namespace liger::trainer
