#ifndef LIGER_WORKER_TRAINER_OPTIM_ROUNDING_H_
#define LIGER_WORKER_TRAINER_OPTIM_ROUNDING_H_

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "worker/trainer/optim/precision.h"

// Inner parts of the optimizers that are made of ATen's ops; not for use elsewhere.
namespace liger::trainer {

// Random bits of one optimizer step: a generator of its own on the parameters'
// device, keyed by seed and step, so that the rounding of a step does not depend
// on what else drew numbers. nullopt for rounding to nearest.
std::optional<at::Generator> StepGenerator(const at::Device& device, Rounding rounding,
                                           uint64_t seed, int64_t step);

// Writes fp32 `value` to `target`, rounding stochastically when target is bf16
// and there is a generator.
void StoreRounded(at::Tensor target, const at::Tensor& value_f32,
                  const std::optional<at::Generator>& generator);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_ROUNDING_H_
