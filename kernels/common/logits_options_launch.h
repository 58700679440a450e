#ifndef LIGER_KERNELS_COMMON_LOGITS_OPTIONS_LAUNCH_H_
#define LIGER_KERNELS_COMMON_LOGITS_OPTIONS_LAUNCH_H_

#include "kernels/common/logits_launch.h"

namespace liger::kernels::cuda {

// See LogitsOptions. class_weight may be null: all 1.
struct LogitsMap {
  float softcap;
  float scale;
  const float* class_weight;
};

// All [C]. weighted_sum may be null, and so may the last five together. A target outside
// [0, V) that is not ignore_index is never read: its logp, and so the loss, is NaN.
struct LogitsSumsOut {
  double* logsumexp;
  double* logp;
  double* weighted_sum;
  int64_t* argmax;
  float* entropy;
  float* log_sum_sq;
  float* mean_logit;
  float* is_top1;
};

Error SumLogits(const Queue& queue, const LogitsShape& shape, const LogitsMap& map,
                const void* logits, const int64_t* target, const LogitsSumsOut& out);

// All [C].
struct LogitsCoefficientsIn {
  const float* softmax;
  const float* onehot;
  const float* smooth;
};

// `out` has rows of out_stride elements of the logits' dtype and may be the logits.
Error MixedLogitsGrad(const Queue& queue, const LogitsShape& shape, const LogitsMap& map,
                      const void* logits, const double* logsumexp, const int64_t* target,
                      const LogitsCoefficientsIn& coefficients, int64_t out_stride, void* out);

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_LOGITS_OPTIONS_LAUNCH_H_
