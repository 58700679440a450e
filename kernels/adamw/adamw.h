#ifndef LIGER_KERNELS_ADAMW_ADAMW_H_
#define LIGER_KERNELS_ADAMW_ADAMW_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/adamw/adamw_scalars.h"

namespace liger::kernels {

// One parameter of AdamWStep. All tensors are contiguous, of one size and on one device.
struct AdamWParameter {
  at::Tensor param;    // float32, bfloat16 or (on a GPU) float16, as all here
  at::Tensor compute;  // gets a copy of the rounded param in another dtype; may be undefined
  at::Tensor grad;
  at::Tensor exp_avg, exp_avg_sq;  // of one dtype
  double weight_decay = 0;
  // Keys the stochastic rounding: different for each seed, step and parameter.
  uint64_t stream = 0;
};

struct AdamWStepOptions {
  double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  int64_t step = 1;  // from 1
  // Multiplies each gradient, as clipping does: float32, one number, on the parameters' device,
  // where the kernel reads it: the host does not. Undefined: 1. When it is not finite nothing is
  // updated, so that a step that went wrong can still be refused when the host looks.
  at::Tensor grad_scale;
  bool stochastic = false;
};

// Whether AdamWStep takes parameters of this device and dtype: ours are loops for a CPU (float32,
// bfloat16), and CUDA kernels in a build with them.
bool HasAdamWStep(const at::Tensor& param);

AdamWScalars ScalarsOf(const AdamWStepOptions& options);

// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2) of all parameters, on a GPU in
// one launch, in float32 arithmetic; for g = grad grad_scale at step t:
//   m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
//   p = p (1 - lr weight_decay) - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
// `stochastic`: bfloat16 parameters and states are rounded up or down with the probability that
// makes the mean exact. Equal streams give equal bits, on a CPU with any number of threads. Copies
// a table of 88 bytes a parameter to a GPU, from pinned memory, and does not wait for its work.
// Dispatcher op `liger::adamw_`: params, grads, exp_avgs, exp_avg_sqs and weight_decays of one
// length; computes (an empty tensor: none) and streams too, or of none. Throws c10::Error that
// names a tensor which is not as above, or one to write that needs a gradient while gradients are
// on.
void AdamWStep(const std::vector<AdamWParameter>& parameters, const AdamWStepOptions& options);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_ADAMW_ADAMW_H_
