#ifndef LIGER_KERNELS_CROSS_ENTROPY_CROSS_ENTROPY_H_
#define LIGER_KERNELS_CROSS_ENTROPY_CROSS_ENTROPY_H_

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/reduction.h"

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
// Saves the logits and one logsumexp a row. On a GPU, where the logits need a gradient, forward
// also writes and keeps it for an upstream gradient of 1 (on Hopper in the one pass over the
// logits, up to 262144 columns of 16 bits); backward hands it out and computes it anew only for
// another upstream gradient, which it asks on the device.
// Equal logits may be of any size: the loss is max - z[y] plus the logarithm of the sum, apart from
// each other. But a gradient that reads the row a second time knows the float64 logsumexp alone,
// which beyond 1e15 has lost that logarithm, as have label smoothing, z-loss and logsumexp_T: a row
// of masks alone (not of masks and logits) has no use there. Mask with -inf.
// A row that holds NaN or +inf, or -inf alone, has a NaN loss and gradient, as PyTorch's op has.
// Throws c10::Error that names the argument and its shape, or the row and value of a target
// that is out of range (on a GPU nothing is read there, and the loss is NaN); V is at least 1.
at::Tensor CrossEntropy(const at::Tensor& logits_TV, const at::Tensor& target_T, double scale = 1.0,
                        int64_t ignore_index = kIgnoreIndex);

// The loss, and in the place of the logits its gradient: one read and one write of them, and no
// second [T, V] beside them. No autograd: throws when the logits need a gradient
// and gradients are on. Dispatcher op `liger::cross_entropy_and_grad_`. logits_TV is contiguous.
at::Tensor CrossEntropyAndGradInPlace(at::Tensor& logits_TV, const at::Tensor& target_T,
                                      double scale = 1.0, int64_t ignore_index = kIgnoreIndex);

struct CrossEntropyOptions {
  // kMean divides by the targets that are not ignored, or, with class weights, by the sum of their
  // weights; z_loss always by their number. With no such target the mean is 0 (PyTorch: NaN).
  Reduction reduction = Reduction::kMean;
  // Factor on the loss and its gradient.
  double scale = 1.0;
  int64_t ignore_index = kIgnoreIndex;
  // In [0, 1].
  double label_smoothing = 0;
  // Bounds the logits, as Gemma 2 does; 0: not.
  double softcap = 0;
  // Factor of the squared logsumexp in the loss; 0: none. Chowdhery et al. 2022
  // (arXiv:2204.02311, sec. 5) use 1e-4.
  double lse_square_scale = 0;
  // Float32 or the logits' dtype, [V]; gets no gradient.
  std::optional<at::Tensor> class_weight_V;
  // Also compute entropy_T and argmax_T.
  bool token_stats = false;
};

struct CrossEntropyOutput {
  // Scalar, or [T] for Reduction::kNone; float32 (float64 for float64 logits). Differentiable;
  // z_loss is in it.
  at::Tensor loss;
  at::Tensor z_loss;       // its share of loss, shaped alike
  // Of the capped logits, float32; 0 where ignored. NaN of a row with +inf (torch.logsumexp: +inf).
  at::Tensor logsumexp_T;
  at::Tensor entropy_T;    // of their softmax, float32, nats; 0 where ignored
  at::Tensor argmax_T;     // int64, the lowest index of the highest logit; 0 where ignored
};

// Cross entropy with the options of torch.nn.functional.cross_entropy, a cap on the logits and
// a z-loss. Dispatcher op `liger::cross_entropy_with_options`, differentiable in logits.
//   z = softcap tanh(logits / softcap), or logits;  w = class_weight, or 1;  e = label_smoothing
//   loss[t] = (1 - e) w[y] (lse - z[t, y]) + e / V sum_v w[v] (lse - z[t, v])
//             + lse_square_scale lse^2,   y = target[t] != ignore_index, lse = logsumexp(z[t])
//   d loss[t] / d z[t, v] = ((1 - e) w[y] + e / V sum w + 2 lse_square_scale lse) softmax(z[t])[v]
//                           - (1 - e) w[y] [v == y] - e / V w[v]
//   and d z / d logits = 1 - (z / softcap)^2
// Shapes, errors and what is saved are CrossEntropy's; on a GPU the loss reads the logits once,
// and the gradient reads and writes them once.
CrossEntropyOutput CrossEntropyWithOptions(const at::Tensor& logits_TV, const at::Tensor& target_T,
                                           const CrossEntropyOptions& options);

// The same, and in the place of the logits the gradient of loss.sum(). No autograd, as
// CrossEntropyAndGradInPlace. Dispatcher op `liger::cross_entropy_with_options_and_grad_`.
CrossEntropyOutput CrossEntropyWithOptionsAndGradInPlace(at::Tensor& logits_TV,
                                                         const at::Tensor& target_T,
                                                         const CrossEntropyOptions& options);

namespace baseline {
// logits.float(), the cap as transformers' Gemma 2 writes it, torch's cross_entropy, and
// logsumexp squared.
CrossEntropyOutput CrossEntropyWithOptions(const at::Tensor& logits_TV, const at::Tensor& target_T,
                                           const CrossEntropyOptions& options);
// As transformers' ForCausalLMLoss: logits.float(), cross_entropy with reduction "sum".
at::Tensor CrossEntropy(const at::Tensor& logits_TV, const at::Tensor& target_T, double scale = 1.0,
                        int64_t ignore_index = kIgnoreIndex);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_CROSS_ENTROPY_CROSS_ENTROPY_H_
