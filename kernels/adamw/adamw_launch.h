#ifndef LIGER_KERNELS_ADAMW_ADAMW_LAUNCH_H_
#define LIGER_KERNELS_ADAMW_ADAMW_LAUNCH_H_

#include "kernels/adamw/adamw_scalars.h"
#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// One parameter of n contiguous elements.
struct AdamWTensor {
  void* param;
  void* compute;  // the rounded param in another dtype; null: none
  const void* grad;
  void* exp_avg;
  void* exp_avg_sq;
  int64_t n;
  int64_t first_chunk;  // chunks of kAdamWChunk elements of the tensors before it
  uint64_t stream;      // keys the stochastic rounding
  float decay;          // 1 - lr * weight_decay, or 1
  Dtype param_dtype, compute_dtype, grad_dtype, state_dtype;
};

inline constexpr int64_t kAdamWChunk = 16384;

// As adamw.h has them.
struct AdamWConstants {
  AdamWScalars scalars;
  const float* grad_scale;  // in device memory; null: 1
  bool stochastic;
};

// One launch for all; `tensors` [count] lies in device memory, in the order of first_chunk.
Error AdamWStep(const Queue& queue, const AdamWTensor* tensors, int count, int64_t chunks,
                const AdamWConstants& constants);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_ADAMW_ADAMW_LAUNCH_H_
