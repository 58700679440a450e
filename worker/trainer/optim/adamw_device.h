#ifndef LIGER_WORKER_TRAINER_OPTIM_ADAMW_DEVICE_H_
#define LIGER_WORKER_TRAINER_OPTIM_ADAMW_DEVICE_H_

#include <ATen/core/Generator.h>

#include <optional>

#include "kernels/adamw/adamw.h"

// Inner part of AdamW; not for use elsewhere.
namespace liger::trainer {

// kernels::AdamWStep of one parameter from ATen's ops, for devices that have no kernel of ours;
// random bits come from `generator` (none: rounding to nearest). `grad_scale` is finite.
void AdamWStepDevice(const kernels::AdamWParameter& parameter,
                     const kernels::AdamWStepOptions& options, double grad_scale,
                     std::optional<at::Generator> generator);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_ADAMW_DEVICE_H_
