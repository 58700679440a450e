#ifndef LIGER_KERNELS_ADAMW_ADAMW_H_
#define LIGER_KERNELS_ADAMW_ADAMW_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace liger::kernels {

// One parameter of AdamWStep. All tensors are contiguous, of one size and on one CUDA device.
struct AdamWParameter {
  at::Tensor param;                // float32, bfloat16 or float16
  at::Tensor compute;              // a copy in another dtype, written too; may be undefined
  at::Tensor grad;                 // float32, bfloat16 or float16
  at::Tensor exp_avg, exp_avg_sq;  // of one dtype
  float decay = 1;                 // 1 - lr * weight_decay, or 1
  uint64_t stream = 0;             // keys the stochastic rounding: different for each seed, step and parameter
};

// Scalars of one step t, the same for every parameter.
struct AdamWStepScalars {
  float one_minus_beta1, beta2, one_minus_beta2, epsilon;
  float step_size;       // lr / (1 - beta1^t)
  float inv_sqrt_bias2;  // 1 / sqrt(1 - beta2^t)
  float grad_scale;      // multiplies each gradient: clipping
};

// Whether AdamWStep takes parameters of this device: CUDA, in a build with CUDA kernels.
bool HasAdamWStep(c10::Device device);

// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2) of all parameters in one
// launch, in float32 arithmetic:
//   m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
//   p = p decay - step_size m / (sqrt(v) inv_sqrt_bias2 + epsilon)
// `stochastic`: bfloat16 parameters and states are rounded up or down with the probability that
// makes the mean exact. Equal streams give equal bits. Copies a table of 88 bytes a parameter to
// the device, and does not wait for the device's work. Throws c10::Error that names a tensor which is not as above.
void AdamWStep(const std::vector<AdamWParameter>& parameters, const AdamWStepScalars& scalars,
               bool stochastic);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_ADAMW_ADAMW_H_
