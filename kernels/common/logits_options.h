#ifndef LIGER_KERNELS_COMMON_LOGITS_OPTIONS_H_
#define LIGER_KERNELS_COMMON_LOGITS_OPTIONS_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// What of rows of logits z a loss with options is made of. Their softmax p is that of
//   z' = scale softcap tanh(z / softcap), or scale z where softcap is 0.
struct LogitsOptions {
  int64_t ignore_index;
  double softcap = 0;
  double scale = 1;  // > 0: one over the temperature
  // [V], contiguous, float32 (float64 for float64 logits); undefined: all 1.
  at::Tensor class_weight_V;
  bool weighted_sum = false;
  bool token_stats = false;
};

// All [C]; 0 where the target is ignored.
struct LogitsSums {
  at::Tensor logsumexp;     // float64, of z'
  at::Tensor logp;          // float64: z'[target] - logsumexp
  at::Tensor weighted_sum;  // float64: sum_v class_weight[v] z'[v]; 0 unless asked for
  // Undefined unless token_stats is on.
  at::Tensor argmax;  // int64, the lowest v of the highest z
  // float32 (float64 for float64 logits).
  at::Tensor entropy;
  at::Tensor log_sum_sq;  // log sum_v p[v]^2
  at::Tensor mean_logit;  // of z'
  at::Tensor is_top1;
};

// logits_CV [C, V] contiguous in the last dimension, target_C int64 [C], in range or ignored.
LogitsSums SumLogits(const at::Tensor& logits_CV, const at::Tensor& target_C,
                     const LogitsOptions& options);

// Of each row, all [C] and float32 (float64 for float64 logits).
struct LogitsCoefficients {
  at::Tensor softmax, onehot, smooth;
};

// out[c, v] = (softmax[c] p[c, v] - onehot[c] [v == target[c]] - smooth[c] class_weight[v])
//             * d z'[c, v] / d z[c, v],  0 in ignored rows.
// out_CV has the logits' dtype and may be the logits; or on a CPU it is float32.
void MixedLogitsGrad(const at::Tensor& logits_CV, const at::Tensor& logsumexp_C,
                     const at::Tensor& target_C, const LogitsCoefficients& coefficients,
                     const LogitsOptions& options, const at::Tensor& out_CV);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_LOGITS_OPTIONS_H_
