#ifndef LIGER_KERNELS_COMMON_LOGITS_H_
#define LIGER_KERNELS_COMMON_LOGITS_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// What rows of logits come to, all [C]; 0 where the target is ignored. Of a row that holds NaN or
// +inf the first four are NaN; of one of -inf alone, too, but for its logsumexp of -inf.
struct LogitsStats {
  at::Tensor logsumexp;  // float64: rounded to float32 it would cost p half of its digits
  at::Tensor logp;       // float64: z[target] - logsumexp
  // float32 (float64 for float64 logits); undefined unless asked for.
  at::Tensor entropy;
  at::Tensor log_sum_sq;
  at::Tensor mean_logit;
  at::Tensor is_top1;
};

// logits_CV [C, V] contiguous in the last dimension, target_C int64 [C], in range or ignored.
LogitsStats ReduceLogits(const at::Tensor& logits_CV, const at::Tensor& target_C,
                         int64_t ignore_index, bool stats);

// out[c, v] = factor[c] * (softmax(z[c])[v] - [v == target[c]]), 0 in ignored rows.
// factor_C is float32 (float64 for float64 logits). out_CV: the logits' dtype, where it may be
// the logits themselves, or float32.
void CrossEntropyGrad(const at::Tensor& logits_CV, const at::Tensor& logsumexp_C,
                      const at::Tensor& target_C, const at::Tensor& factor_C, int64_t ignore_index,
                      const at::Tensor& out_CV);

// CrossEntropyGrad with `upstream` (a scalar of the factor's dtype) times `scale` as the factor of
// all rows; where upstream is 1, out_CV stays as it is.
void CrossEntropyGradUnlessOne(const at::Tensor& logits_CV, const at::Tensor& logsumexp_C,
                               const at::Tensor& target_C, const at::Tensor& upstream, double scale,
                               int64_t ignore_index, const at::Tensor& out_CV);

// Both at once: the statistics, and CrossEntropyGrad of the logits' dtype into `out`, which may be
// the logits. On Hopper a row is read once and written once.
LogitsStats CrossEntropyAndGrad(const at::Tensor& logits_CV, const at::Tensor& target_C,
                                const at::Tensor& factor_C, int64_t ignore_index, bool stats,
                                const at::Tensor& out_CV);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_LOGITS_H_
