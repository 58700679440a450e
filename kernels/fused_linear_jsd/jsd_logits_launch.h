#ifndef LIGER_KERNELS_FUSED_LINEAR_JSD_JSD_LOGITS_LAUNCH_H_
#define LIGER_KERNELS_FUSED_LINEAR_JSD_JSD_LOGITS_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// Two contiguous [C, V] tensors of logits of one dtype.
struct JsdLogits {
  Dtype dtype;
  int64_t C, V;
  void* student;
  const void* teacher;
  double beta, temperature;
  bool write_grad;  // d row_loss / d student over the student's logits
};

// See jsd_logits.h. row_loss [C].
Error JsdOfLogits(const Queue& queue, const JsdLogits& logits, double* row_loss);

// The same of 16-bit logits in one pass; needs compute capability 9.0, room for a cluster of blocks,
// 16 byte aligned rows, and V up to 262144.
bool HasHalfJsd(const JsdLogits& logits);
Error HalfJsdOfLogits(const Queue& queue, const JsdLogits& logits, double* row_loss);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_FUSED_LINEAR_JSD_JSD_LOGITS_LAUNCH_H_
