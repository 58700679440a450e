#ifndef LIGER_WORKER_TRAINER_LOOP_STRATEGY_CHOICE_H_
#define LIGER_WORKER_TRAINER_LOOP_STRATEGY_CHOICE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "common/spec/memory_needs.h"
#include "worker/trainer/loop/memory_plan.h"
#include "worker/trainer/loop/request.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/optim/precision.h"
#include "worker/trainer/parallel/rank.h"

namespace liger::trainer {

// What a device holds of a job that has the whole model, from its shapes: parameters, gradients,
// optimizer states, a frozen reference; no activations. `model` may be on the meta device; with
// LoRA it has its adapters.
int64_t WholeModelBytes(const CausalLM& model, const liger::v1::JobSpec& spec,
                        const PrecisionPlan& precision);

// parallel.strategy of a job of several ranks: what it says, and where it says nothing,
// ChosenStrategy by WholeModelBytes; DDP on CPUs, whose memory is one. `why` gets a line for the
// user.
liger::v1::ParallelStrategy ChooseStrategy(const Request& request, const RankInfo& rank,
                                           std::string* why);

// What a rank holds with each strategy and on each number of devices that the job may run on, and
// with FSDP on others, for the coordinator, which knows devices. Needs no device.
MemoryNeeds NeedsOf(const Request& request);

// The memory that a rank meets; nullopt: not to be looked at, or not known.
struct RankMemory {
  std::optional<int64_t> device, host;  // all of the device's, what the host has free
  int ranks_on_host = 1;
};
// Throws TrainerError (CONFIG) where the plan's least, whatever the batch, is more than that: what
// is needed, what is there and what to change.
void RequireFits(const MemoryPlan& plan, const liger::v1::JobSpec& spec, const RankMemory& there);
// Where the plan's peak is more than the device has, what is needed, there, and to change: rows
// that are shorter than training.max_length may fit all the same.
std::optional<liger::v1::Warning> PeakWarning(const MemoryPlan& plan,
                                              const liger::v1::JobSpec& spec,
                                              const RankMemory& there);
// The same of the host's memory and training.activation_offloading.
std::optional<liger::v1::Warning> HostWarning(const MemoryPlan& plan,
                                              const liger::v1::JobSpec& spec,
                                              const RankMemory& there);
// RequireFits of this rank, before anything is loaded, and what it looked at; nullopt on a CPU
// without parallel.cpu_offload. `spec`: the request's with its strategy chosen.
struct PlannedMemory {
  MemoryPlan plan;
  RankMemory there;
};
std::optional<PlannedMemory> RequireFits(const Request& request, const RankInfo& rank,
                                         const liger::v1::JobSpec& spec);

// Throws TrainerError (CONFIG) where the ranks of parallel.sequence_parallel_size cannot have
// equally many of the model's query heads.
void RequireHeadsForAllRanks(const liger::v1::ParallelSpec& parallel, const ModelConfig& config);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_STRATEGY_CHOICE_H_
