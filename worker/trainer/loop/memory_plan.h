#ifndef LIGER_WORKER_TRAINER_LOOP_MEMORY_PLAN_H_
#define LIGER_WORKER_TRAINER_LOOP_MEMORY_PLAN_H_

#include <cstdint>
#include <optional>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/optim/precision.h"

namespace liger::trainer {

// What a rank holds in a training step, in bytes, predicted from shapes: docs/parallelism.md has
// the terms in words, memory_plan_test measured peaks beside them.
struct MemoryPlan {
  // On the device all the step long: parameters, optimizer states, a live reference; what is
  // gathered of shards.
  int64_t resting = 0;
  // On the device at the end of the last backward pass: all gradients that stay there.
  int64_t gradients = 0;
  // The device's peak; nullopt where the activations of the model's blocks are not known here
  // (other blocks than dense pre-norm ones, BASELINE's ops, a CPU).
  std::optional<int64_t> peak;
  // In the host's memory (parallel.cpu_offload, a precomputed reference of shards).
  int64_t host = 0;
  // There, too, at most (training.activation_offloading).
  int64_t host_activations = 0;
};

// Of a rank of `ranks` with the micro-batch that the spec allows at most. `model` may be on the
// meta device; with LoRA it has its adapters. parallel.strategy: UNSPECIFIED is DDP.
MemoryPlan PlanMemory(const CausalLM& model, const liger::v1::JobSpec& spec,
                      const PrecisionPlan& precision, int ranks);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_MEMORY_PLAN_H_
