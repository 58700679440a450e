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
  void* grad;           // [N, V], the inputs' dtype: d term / d input times *scale
  const double* scale;  // of grad
  // Where given and 1, nothing at all is done: what was written before is right.
  const double* upstream;
};

Error Divergence(const Queue& queue, divergence::Kind kind, double parameter,
                 const DivergenceIn& in, const DivergenceOut& out);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_DIVERGENCE_DIVERGENCE_LAUNCH_H_
