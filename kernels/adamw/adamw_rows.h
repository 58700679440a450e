#ifndef LIGER_KERNELS_ADAMW_ADAMW_ROWS_H_
#define LIGER_KERNELS_ADAMW_ADAMW_ROWS_H_

#include <cstdint>

#include "kernels/adamw/adamw_scalars.h"

namespace liger::kernels {

// One parameter of contiguous elements, each list float32 or bfloat16.
struct AdamWRow {
  void* param;
  void* compute;  // null: none
  const void* grad;
  void* exp_avg;
  void* exp_avg_sq;
  bool param_is_bf16, compute_is_bf16, grad_is_bf16, state_is_bf16;
  float decay;
  uint64_t stream;
};

// Updates elements [begin, end); see adamw.h. In one pass over memory, but for the compute copy.
void AdamWRows(const AdamWRow& row, const AdamWScalars& scalars, float grad_scale, bool stochastic,
               int64_t begin, int64_t end);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_ADAMW_ADAMW_ROWS_H_
