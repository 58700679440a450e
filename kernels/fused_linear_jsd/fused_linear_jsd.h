#ifndef LIGER_KERNELS_FUSED_LINEAR_JSD_FUSED_LINEAR_JSD_H_
#define LIGER_KERNELS_FUSED_LINEAR_JSD_FUSED_LINEAR_JSD_H_

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/cross_entropy/cross_entropy.h"

namespace liger::kernels {

struct FusedLinearJsdOptions {
  double beta = 0.5;         // in [0, 1], as in JsdOptions
  double temperature = 1.0;  // both heads' logits are divided by it
  int64_t ignore_index = kIgnoreIndex;
  // Added to the heads' products, [V] of their dtype; the student's gets a gradient.
  std::optional<at::Tensor> student_bias_V, teacher_bias_V;
  // As of FusedLinearCrossEntropyOptions: the student's head's gradients are added into these
  // contiguous float32 buffers, [V, H] and [V], during the forward call, for an upstream gradient
  // of 1, and none flows to the head through autograd. Nothing is added while gradients are off.
  std::optional<at::Tensor> grad_weight_VH, grad_bias_V;
  bool grad_weight_is_new = false;
};

// The generalised Jensen-Shannon divergence (divergence.h) between the linear heads of a student
// and of a teacher, in one op that never holds [T, V]:
//   log_q = log_softmax((student_hidden student_weight^T + student_bias) / temperature),
//   log_p of the teacher alike
//   loss  = sum over rows and classes of jsd's term / number of rows that are not ignored
// The loss is not multiplied with temperature^2. Rows whose label is ignore_index cost nothing;
// other labels mean nothing. Without rows the loss is 0.
// Gradients of the student are computed in the forward call, chunk of tokens by chunk, from the
// logits at hand (as FusedLinearCrossEntropy); the teacher gets none. dW is accumulated in float32.
// Dispatcher op `liger::fused_linear_jsd`, differentiable in student_hidden, student_weight and
// student_bias.
//   student_hidden_TH [T, H], student_weight_VH [V, H]
//   teacher_hidden_TK [T, K], teacher_weight_VK [V, K]: one dtype and device for all four
//   label_T  int64 [T], or none: every row counts
// Memory on a GPU: two buffers of logits, of [4096, V] at most and of 900 MiB at most each, and
// the gradients in float32 until backward rounds them.
// With labels the number of rows is read back from the GPU, as for the other fused heads.
// Second derivatives are not defined and throw.
// Throws c10::Error that names the argument and its shape; temperature must be positive, V at
// least 1.
at::Tensor FusedLinearJsd(const at::Tensor& student_hidden_TH, const at::Tensor& student_weight_VH,
                          const at::Tensor& teacher_hidden_TK, const at::Tensor& teacher_weight_VK,
                          const std::optional<at::Tensor>& label_T = std::nullopt,
                          const FusedLinearJsdOptions& options = {});

namespace baseline {
// As TRL's GKD: both heads' logits in float32, log_softmax, jsd. Holds [T, V] several times. The
// gradient buffers of `options` are not used: gradients flow through autograd.
at::Tensor FusedLinearJsd(const at::Tensor& student_hidden_TH, const at::Tensor& student_weight_VH,
                          const at::Tensor& teacher_hidden_TK, const at::Tensor& teacher_weight_VK,
                          const std::optional<at::Tensor>& label_T = std::nullopt,
                          const FusedLinearJsdOptions& options = {});
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_FUSED_LINEAR_JSD_FUSED_LINEAR_JSD_H_
