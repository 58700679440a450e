#ifndef LIGER_KERNELS_FUSED_LINEAR_CROSS_ENTROPY_FUSED_LINEAR_CROSS_ENTROPY_H_
#define LIGER_KERNELS_FUSED_LINEAR_CROSS_ENTROPY_FUSED_LINEAR_CROSS_ENTROPY_H_

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/cross_entropy/cross_entropy.h"

namespace liger::kernels {

struct FusedLinearCrossEntropyOptions {
  // Factor on the loss and every gradient: 1 / (valid tokens of the whole step).
  double scale = 1.0;
  int64_t ignore_index = kIgnoreIndex;
  // Also compute `entropy_T` and `is_top1_T`.
  bool token_stats = false;
  // When given, the head's gradient is added into this contiguous float32 [V, H] buffer
  // during the forward call, and none flows to weight_VH through autograd. It is the
  // gradient of the loss itself: the upstream gradient must be 1, that is, call
  // backward() on the loss or on a sum in which it has the factor 1; another
  // factor throws in backward (unchecked on a GPU, where looking would stall).
  // Nothing is added while gradients are off.
  std::optional<at::Tensor> grad_weight_VH;
  // What grad_weight_VH holds does not count, as that of at::empty: it becomes the gradient instead
  // of being added to, all zeros where no row is valid. Spares zeroing it before the first of
  // several calls, and reading the zeros.
  bool grad_weight_is_new = false;
  // As grad_weight_VH for the bias, float32 [V]; always added to.
  std::optional<at::Tensor> grad_bias_V;
  // Factor of each token's loss, float32 [T] (float64 for float64 inputs); gets no gradient.
  std::optional<at::Tensor> token_weight_T;
  // Where target is not ignore_index, int64 [M], ascending, on hidden's device. Without it the
  // op looks it up, for which the host waits for a GPU. Must be right: compared on a CPU only.
  std::optional<at::Tensor> valid_rows_M;
  // Bounds the logits, as Gemma 2 does; 0: not.
  double softcap = 0;
  // Divides them, after the cap; > 0.
  double temperature = 1;
  // In [0, 1].
  double label_smoothing = 0;
  // Factor of the squared logsumexp in the loss; 0: none.
  double lse_square_scale = 0;
};

struct FusedLinearCrossEntropyOutput {
  at::Tensor loss;       // float32 scalar (float64 for float64 inputs), differentiable
  at::Tensor entropy_T;  // float32, nats; 0 where ignored; undefined unless token_stats
  at::Tensor is_top1_T;  // float32, 1 where the target has the highest logit; likewise
};

// Linear head and cross entropy in one op that never holds [T, V]:
//   loss = scale * sum_t (logsumexp(z[t]) - z[t, target[t]]),  z = hidden W^T + b
// or with the options, where e = label_smoothing and lse = logsumexp(z[t]):
//   z = softcap tanh((hidden W^T + b) / softcap) / temperature
//   loss = scale * sum_t token_weight[t] ((1 - e) (lse - z[t, target[t]])
//          + e (lse - mean_v z[t, v]) + lse_square_scale lse^2)
// over tokens whose target is not ignore_index (other rows cost nothing). Gradients are
// computed in the forward call, chunk of tokens by chunk, from the logits at hand: 3
// matrix products, instead of 4 with recomputation, and 1 while gradients are off or not needed.
// (Hsu et al. 2024, arXiv:2410.10989, sec. 3.2; theirs chunks all rows and keeps dW in the
// weight's dtype; here dW is accumulated in float32.)
// Dispatcher op `liger::fused_linear_cross_entropy`, differentiable in hidden, weight, bias.
//   hidden_TH [T, H], weight_VH [V, H], bias_V [V]: one dtype and device
//   target_T  int64 [T], each in [0, V) or ignore_index
// target_T is aligned with hidden_TH: the caller shifts labels.
// Second derivatives are not defined and throw.
// Throws c10::Error that names the argument and its shape, or the row and value of a target
// that is out of range (on a GPU nothing is read there, and the loss is NaN); V is at least 1.
FusedLinearCrossEntropyOutput FusedLinearCrossEntropy(
    const at::Tensor& hidden_TH, const at::Tensor& weight_VH, const at::Tensor& target_T,
    const std::optional<at::Tensor>& bias_V = std::nullopt,
    const FusedLinearCrossEntropyOptions& options = {});

namespace baseline {
// As transformers: lm_head, logits.float(), cross_entropy. Holds [T, V]. The gradient
// buffers of `options` are not used: gradients flow through autograd.
FusedLinearCrossEntropyOutput FusedLinearCrossEntropy(
    const at::Tensor& hidden_TH, const at::Tensor& weight_VH, const at::Tensor& target_T,
    const std::optional<at::Tensor>& bias_V = std::nullopt,
    const FusedLinearCrossEntropyOptions& options = {});
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_FUSED_LINEAR_CROSS_ENTROPY_FUSED_LINEAR_CROSS_ENTROPY_H_
