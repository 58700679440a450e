#include <cstdlib>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "worker/trainer/parallel/nccl_module.h"

// See nccl_module.h.
extern "C" __attribute__((visibility("default"))) c10::intrusive_ptr<c10d::Backend> LigerMakeNccl(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int world_size, int64_t timeout_ms) {
  // The trainer's own watch ends the process, with a message that names ranks; c10d's would abort
  // it, and its monitor takes a long save of rank 0 for a hang of the host.
  setenv("TORCH_NCCL_ENABLE_MONITORING", "0", /*overwrite=*/0);
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/0);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(timeout_ms);
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, world_size, options);
}
