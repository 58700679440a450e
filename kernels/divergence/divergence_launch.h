#ifndef LIGER_KERNELS_DIVERGENCE_DIVERGENCE_LAUNCH_H_
#define LIGER_KERNELS_DIVERGENCE_DIVERGENCE_LAUNCH_H_

#include "kernels/common/launch.h"
#include "kernels/divergence/divergence_terms.h"

namespace liger::kernels::cuda {

// Two contiguous [N, V] tensors; label [N] may be null.
struct DivergenceIn {
  Dtype dtype;
  int64_t N, V;
  const void* input;
  const void* target;
  const int64_t* label;
  int64_t ignore_index;
};

// Each may be null but row_sums. Ignored rows get zeros.
struct DivergenceOut {
  double* row_sums;     // [N]
  void* terms;          // [N, V], the inputs' dtype
  void* grad;           // [N, V], the inputs' dtype: d term / d input times *grad_scale
  const double* scale;  // of grad; null: 1
};

Error Divergence(const Queue& queue, divergence::Kind kind, double parameter,
                 const DivergenceIn& in, const DivergenceOut& out);

// x[i] *= *factor over n contiguous elements; nothing is touched where that is 1.
Error ScaleInPlace(const Queue& queue, Dtype dtype, int64_t n, const float* factor, void* x);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_DIVERGENCE_DIVERGENCE_LAUNCH_H_
