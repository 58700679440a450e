#ifndef LIGER_WORKER_TRAINER_OPTIM_ADAMW_CPU_H_
#define LIGER_WORKER_TRAINER_OPTIM_ADAMW_CPU_H_

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "worker/trainer/optim/precision.h"

// Inner parts of AdamW and GlobalGradientNorm; not for use elsewhere.
namespace liger::trainer {

// Scalars of one AdamW update, the same for every element of a parameter.
struct AdamWScalars {
  // 1 - beta is rounded from double: from a float beta it would be off by 5e-5.
  float one_minus_beta1, beta2, one_minus_beta2;
  float epsilon;
  float step_size;       // lr / (1 - beta1^t)
  float inv_sqrt_bias2;  // 1 / sqrt(1 - beta2^t)
  float decay;           // 1 - lr * weight_decay, or 1
  float grad_scale;
};

// One parameter's update. All tensors contiguous and of one size; `compute` is
// `param` itself unless there is a separate compute copy. `stream` keys the
// stochastic rounding: unique per (seed, step, parameter).
void AdamWStepCpu(at::Tensor param, at::Tensor compute, const at::Tensor& grad, at::Tensor exp_avg,
                  at::Tensor exp_avg_sq, const AdamWScalars& scalars, Rounding rounding,
                  uint64_t stream);

// The same on any device, from ATen ops; random bits come from `generator`
// (undefined: rounding to nearest).
void AdamWStepDevice(at::Tensor param, at::Tensor compute, const at::Tensor& grad,
                     at::Tensor exp_avg, at::Tensor exp_avg_sq, const AdamWScalars& scalars,
                     std::optional<at::Generator> generator);

// Sum of squares of elements [begin, end) of a contiguous CPU tensor, in double.
double SumOfSquares(const at::Tensor& values, int64_t begin, int64_t end);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OPTIM_ADAMW_CPU_H_
