#ifndef LIGER_WORKER_TRAINER_PINNED_MEMORY_H_
#define LIGER_WORKER_TRAINER_PINNED_MEMORY_H_

#include <ATen/core/TensorBody.h>

namespace liger::trainer {

// CUDA's error code (c10::AcceleratorError) of memory that there is no more of.
inline constexpr int kCudaErrorMemoryAllocation = 2;

// `numel` uninitialised elements in the host's memory, which `device` copies to and from beside
// other work (pinned; of a CPU ordinary memory). Throws TrainerError (OOM_HOST) where the host
// gives no more of it.
at::Tensor PinnedMemory(int64_t numel, at::ScalarType dtype, at::Device device);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PINNED_MEMORY_H_
