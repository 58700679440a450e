#ifndef LIGER_WORKER_TRAINER_LOOP_STEP_FLOPS_H_
#define LIGER_WORKER_TRAINER_LOOP_STEP_FLOPS_H_

#include <optional>
#include <string>

#include "worker/trainer/data/batch.h"
#include "worker/trainer/loop/model_setup.h"

namespace liger::trainer {

// The floating point operations that a step's mathematics takes, for tflops and mfu as
// Chowdhery et al. 2022 (arXiv:2204.02311, appendix B) define them: two for each multiply
// and add of the matrix products and of causal attention, nothing for what is computed
// again (activation checkpointing) or left out (shared prefixes), norms or the optimizer.
class StepFlops {
 public:
  // A live reference adds its forward pass, and KTO's mismatched answers (`mismatched`)
  // one or two more.
  StepFlops(const TrainableModel& trainable, bool live_reference, bool mismatched);

  double Of(const Batch& batch) const;

 private:
  // Of one forward pass, without adapters.
  double Forward(const Batch& batch) const;

  // Multiplies a token: blocks, head, adapters.
  double block_weights_ = 0, head_weights_ = 0, adapter_weights_ = 0;
  const ModelConfig config_;
  const bool frozen_, live_reference_, mismatched_;
};

// Dense bf16 operations a second of a GPU by the end of Device::description(), as its maker
// states them; nullopt: not known here.
std::optional<double> PeakBf16Flops(const std::string& device);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_STEP_FLOPS_H_
