#ifndef LIGER_KERNELS_COMMON_LOGITS_LAUNCH_H_
#define LIGER_KERNELS_COMMON_LOGITS_LAUNCH_H_

#include "kernels/common/launch.h"

namespace liger::kernels::cuda {

// Rows of logits: element (c, v) at c * stride + v.
struct LogitsShape {
  Dtype dtype;
  int64_t C, V, stride;
  int64_t ignore_index;
};

// Results of rows, all [C]; the last four may be null. A target outside [0, V) that is not
// ignore_index is never read: its logp, and so the loss, is NaN.
struct LogitsResults {
  double* logsumexp;
  double* logp;
  float* entropy;
  float* log_sum_sq;
  float* mean_logit;
  float* is_top1;
};

Error ReduceLogits(const Queue& queue, const LogitsShape& shape, const void* logits,
                   const int64_t* target, const LogitsResults& results);

// out[c, v] = factor[c] * (exp(z - logsumexp) - [v == target[c]]), 0 in ignored rows. `out` has
// rows of out_stride elements of out_dtype (the logits' or float32) and may be the logits.
Error CrossEntropyGrad(const Queue& queue, const LogitsShape& shape, const void* logits,
                       const double* logsumexp, const int64_t* target, const float* factor,
                       Dtype out_dtype, int64_t out_stride, void* out);

// The same with factor = *upstream * scale in all rows and `out` of the logits' dtype; where
// *upstream is 1, nothing is written.
Error CrossEntropyGradUnlessOne(const Queue& queue, const LogitsShape& shape, const void* logits,
                                const double* logsumexp, const int64_t* target,
                                const float* upstream, float scale, int64_t out_stride, void* out);

// Both at once: a row is spread over the shared memory of a cluster of blocks, read once and
// written once. Needs compute capability 9.0, room for such a cluster (a slice of a GPU may have
// none), 16 byte aligned rows, and V up to 262144 (16-bit) or 131072 (float32). `out` has rows of
// out_stride elements of the logits' dtype and may be the logits. `stats`: LogitsResults has its
// last four.
bool HasSinglePass(const LogitsShape& shape, bool stats, const void* logits, int64_t out_stride,
                   const void* out);
Error CrossEntropyAndGrad(const Queue& queue, const LogitsShape& shape, const void* logits,
                          const int64_t* target, const float* factor,
                          const LogitsResults& results, int64_t out_stride, void* out);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_LOGITS_LAUNCH_H_
