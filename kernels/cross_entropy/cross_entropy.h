#ifndef LIGER_KERNELS_CROSS_ENTROPY_CROSS_ENTROPY_H_
#define LIGER_KERNELS_CROSS_ENTROPY_CROSS_ENTROPY_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// Target value of a token that carries no loss.
inline constexpr int64_t kIgnoreIndex = -100;

// scale * sum over tokens of -log softmax(logits)[target], differentiable in logits.
// Dispatcher op `liger::cross_entropy`.
//   loss = scale * sum_t (logsumexp(logits[t]) - logits[t, target[t]]),  target[t] != ignore_index
//   d loss / d logits[t, v] = scale * (softmax(logits[t])[v] - [v == target[t]])
//   logits_TV [T, V], target_T int64 [T], each in [0, V) or ignore_index
//   scale: 1 / (valid tokens of the whole step), or 1
// Returns a float32 scalar (float64 for float64 logits); 0 when every target is ignored.
// Row sums are taken in float32 blocks and float64 totals: PyTorch's own float32 CPU op is
// off by up to 1.5e-5 a token at V = 49152, this one by 1e-7.
// Saves the logits and one logsumexp a row.
// Throws c10::Error that names the argument and its shape, or the row and value of a target
// that is out of range (on a GPU nothing is read there, and the loss is NaN).
at::Tensor CrossEntropy(const at::Tensor& logits_TV, const at::Tensor& target_T, double scale = 1.0,
                        int64_t ignore_index = kIgnoreIndex);

// The loss, and in the place of the logits its gradient: one read and one write of them where
// CrossEntropy and its backward take three. No autograd: throws when the logits need a gradient
// and gradients are on. Dispatcher op `liger::cross_entropy_and_grad_`. logits_TV is contiguous.
at::Tensor CrossEntropyAndGradInPlace(at::Tensor& logits_TV, const at::Tensor& target_T,
                                      double scale = 1.0, int64_t ignore_index = kIgnoreIndex);

namespace baseline {
// As transformers' ForCausalLMLoss: logits.float(), cross_entropy with reduction "sum".
at::Tensor CrossEntropy(const at::Tensor& logits_TV, const at::Tensor& target_T, double scale = 1.0,
                        int64_t ignore_index = kIgnoreIndex);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_CROSS_ENTROPY_CROSS_ENTROPY_H_
