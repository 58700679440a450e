#ifndef LIGER_WORKER_TRAINER_PARALLEL_NCCL_MODULE_H_
#define LIGER_WORKER_TRAINER_PARALLEL_NCCL_MODULE_H_

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace liger::trainer {

// What the module liger_nccl.so gives the trainer, once libtorch_cuda is loaded: c10d's
// ProcessGroupNCCL, whose header needs CUDA's. A gang on GPUs loads it; nothing else needs NCCL.
using MakeNcclFunction = c10::intrusive_ptr<c10d::Backend> (*)(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int world_size, int64_t timeout_ms);
inline constexpr char kNcclModule[] = "liger_nccl.so";
inline constexpr char kMakeNccl[] = "LigerMakeNccl";

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_PARALLEL_NCCL_MODULE_H_
