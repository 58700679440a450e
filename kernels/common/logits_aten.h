#ifndef LIGER_KERNELS_COMMON_LOGITS_ATEN_H_
#define LIGER_KERNELS_COMMON_LOGITS_ATEN_H_

#include <ATen/core/Tensor.h>

// What rows of logits amount to in PyTorch's ops, for dtypes and devices without loops or kernels
// of ours, whose numbers they give in rows with infinities, NaN or a target out of range.
namespace liger::kernels::aten {

// The logsumexp of rows z_CV, float64 [C], in two parts: base + log_total. A row with +inf, whose
// softmax is none, has a NaN.
struct RowLogSumExp {
  at::Tensor base;       // the highest logit; 0 of a row of -inf alone
  at::Tensor log_total;  // log of the sum of exp(z - base)
};
RowLogSumExp LogSumExp(const at::Tensor& z_CV);

// z[c, target[c]], [C]. A target outside [0, V) is never read: NaN.
at::Tensor AtTarget(const at::Tensor& z_CV, const at::Tensor& target_C);

// dz[c, target[c]] -= amount[c] where the target is in [0, V).
void SubtractAtTarget(const at::Tensor& dz_CV, const at::Tensor& target_C,
                      const at::Tensor& amount_C);

// -sum p log p of rows of logarithms, [C]. A class of probability 0 counts nothing.
at::Tensor Entropy(const at::Tensor& logp_CV);

}  // namespace liger::kernels::aten

#endif  // LIGER_KERNELS_COMMON_LOGITS_ATEN_H_
