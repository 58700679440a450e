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

// Contiguous [T, R], or [3, T, R] of multimodal positions: pair i of R/2 takes the first table for
// i < first_end, the second for i < second_end, and else the third.
struct RopeTables {
  Dtype dtype;
  int64_t R;
  const void* cos;
  const void* sin;
  int64_t first_end, second_end;  // R/2 both: one table
};

// Rotates q and k; see rope.h.
Error Rope(const Queue& queue, Dtype dtype, int64_t T, int64_t D, const RopeHeads& q,
           const RopeHeads& k, const RopeTables& tables, bool backward);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_ROPE_ROPE_LAUNCH_H_
