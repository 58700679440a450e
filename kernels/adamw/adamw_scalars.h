#ifndef LIGER_KERNELS_ADAMW_ADAMW_SCALARS_H_
#define LIGER_KERNELS_ADAMW_ADAMW_SCALARS_H_

// What AdamW's loops and kernels share; no torch header.
namespace liger::kernels {

// Scalars of one step t, the same for every parameter.
struct AdamWScalars {
  // 1 - beta is rounded from double: from a float beta it would be off by 5e-5.
  float one_minus_beta1, beta2, one_minus_beta2, epsilon;
  float step_size;       // lr / (1 - beta1^t)
  float inv_sqrt_bias2;  // 1 / sqrt(1 - beta2^t)
};

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_ADAMW_ADAMW_SCALARS_H_
