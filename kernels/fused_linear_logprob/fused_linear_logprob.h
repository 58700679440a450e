#ifndef LIGER_KERNELS_FUSED_LINEAR_LOGPROB_FUSED_LINEAR_LOGPROB_H_
#define LIGER_KERNELS_FUSED_LINEAR_LOGPROB_FUSED_LINEAR_LOGPROB_H_

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/cross_entropy/cross_entropy.h"

namespace liger::kernels {

struct FusedLinearLogprobOptions {
  int64_t ignore_index = kIgnoreIndex;
  // Also compute the four statistics of FusedLinearLogprobOutput.
  bool token_stats = false;
  // When given, backward adds the head's gradient into this contiguous float32 [V, H]
  // buffer (any upstream gradient) and none flows to weight_VH through autograd.
  std::optional<at::Tensor> grad_weight_VH;
  // As of FusedLinearCrossEntropyOptions; it is backward that writes.
  bool grad_weight_is_new = false;
  std::optional<at::Tensor> grad_bias_V;  // as grad_weight_VH for the bias, float32 [V]
  // As of FusedLinearCrossEntropyOptions.
  std::optional<at::Tensor> valid_rows_M;
  double softcap = 0;
  double temperature = 1;
};

// All [T] and float32 (float64 for float64 inputs); 0 where the target is ignored. Only
// logp_T is differentiable; the others are undefined unless token_stats.
struct FusedLinearLogprobOutput {
  at::Tensor logp_T;        // log softmax(z[t])[target[t]]
  at::Tensor entropy_T;     // -sum_v p_v log p_v, nats
  at::Tensor log_sum_sq_T;  // log sum_v p_v^2 (minus the Renyi-2 entropy)
  at::Tensor mean_logit_T;  // mean over v of z[t, v], capped and over the temperature
  at::Tensor is_top1_T;     // 1 where the target has the highest logit
};

// Log-probabilities of the targets under a linear head, never holding [T, V]:
//   logp[t] = z[t, target[t]] - logsumexp(z[t]),  z = hidden W^T + b,
//             or softcap tanh((hidden W^T + b) / softcap) / temperature
//   d logp[t] / d z[t, v] = [v == target[t]] - softmax(z[t])[v]
// for tokens whose target is not ignore_index (other rows cost nothing). Takes any per-token
// upstream gradient (which is where weights of tokens go): backward computes each chunk's logits
// again, 4 matrix products in all. When neither weight nor bias needs a gradient (and no buffer is
// given), forward keeps (e_y - p) W and backward only scales its rows: 2 products; 1 while
// gradients are off. Dispatcher op `liger::fused_linear_logprob`, differentiable in hidden, weight,
// bias.
//   hidden_TH [T, H], weight_VH [V, H], bias_V [V]: one dtype and device
//   target_T  int64 [T], each in [0, V) or ignore_index
// target_T is aligned with hidden_TH: the caller shifts labels.
// Throws c10::Error as FusedLinearCrossEntropy does.
FusedLinearLogprobOutput FusedLinearLogprob(const at::Tensor& hidden_TH,
                                            const at::Tensor& weight_VH, const at::Tensor& target_T,
                                            const std::optional<at::Tensor>& bias_V = std::nullopt,
                                            const FusedLinearLogprobOptions& options = {});

namespace baseline {
// As TRL's selective_log_softmax over transformers' float32 logits, which hold [T, V]; the
// logits may be of any floating dtype. Gradient buffers of `options` are not used.
FusedLinearLogprobOutput Logprob(const at::Tensor& logits_TV, const at::Tensor& target_T,
                                 const FusedLinearLogprobOptions& options = {});
// The same on the logits of PyTorch's linear.
FusedLinearLogprobOutput FusedLinearLogprob(const at::Tensor& hidden_TH,
                                            const at::Tensor& weight_VH, const at::Tensor& target_T,
                                            const std::optional<at::Tensor>& bias_V = std::nullopt,
                                            const FusedLinearLogprobOptions& options = {});
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_FUSED_LINEAR_LOGPROB_FUSED_LINEAR_LOGPROB_H_
