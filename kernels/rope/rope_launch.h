#ifndef LIGER_KERNELS_ROPE_ROPE_LAUNCH_H_
#define LIGER_KERNELS_ROPE_ROPE_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// Heads of T tokens: element (t, n, d) of x at t * x_token + n * x_head + d, of y likewise.
struct RopeHeads {
  const void* x;
  void* y;  // may be x
  int64_t heads;
  int64_t x_token, x_head, y_token, y_head;
};

// Rotates q and k; see rope.h. cos and sin are contiguous [T, R].
Error Rope(const Queue& queue, Dtype dtype, Dtype table_dtype, int64_t T, int64_t D, int64_t R,
           const RopeHeads& q, const RopeHeads& k, const void* cos, const void* sin,
           bool backward);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_ROPE_ROPE_LAUNCH_H_
