#ifndef LIGER_KERNELS_DIVERGENCE_DIVERGENCE_H_
#define LIGER_KERNELS_DIVERGENCE_DIVERGENCE_H_

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/reduction.h"

// Divergences between rows of probabilities that exist as tensors. All three are differentiable
// in their first argument only; the second is a constant.
//
// Shapes: both [N, V], one floating dtype and device. Reductions: kNone gives [N, V] in the
// inputs' dtype; the others a float32 scalar (float64 for float64 inputs) over the N' rows that
// are not ignored: kSum, kBatchMean = sum / N', kMean = sum / (N' V); 0 where N' is 0.
// label_N, int64 [N]: rows whose label is ignore_index count nothing, other values mean nothing.
// A class of probability 0 counts nothing, whatever its other logarithm.
//
// While a gradient is needed, the forward call reads both inputs once and writes the gradient
// beside the sums (as Hsu et al. 2024, arXiv:2410.10989, sec. 3.2, do for cross entropy): memory
// of one more [N, V]. Backward hands that out where the upstream gradient is 1, as of a loss on
// its own, and computes it again where it is not, so that it is rounded once (for kNone it
// multiplies). Arguments that are not contiguous are copied. Throws c10::Error that names the
// argument and its shape.
namespace liger::kernels {

struct KlDivOptions {
  Reduction reduction = Reduction::kBatchMean;
  // The target holds logarithms of probabilities.
  bool log_target = false;
  // Floor of the target within its logarithm (not for log_target).
  double eps = 0;
};

// KL(p || q), as torch.nn.functional.kl_div. Dispatcher op `liger::kl_div`.
//   term = p (log max(p, eps) - log_q),  d term / d log_q = -p
at::Tensor KlDiv(const at::Tensor& log_q_NV, const at::Tensor& target_NV,
                 const KlDivOptions& options = {});

struct JsdOptions {
  double beta = 0.5;  // in [0, 1]
  int64_t ignore_index = kIgnoreIndex;
};

// Generalised Jensen-Shannon divergence of a student q from a teacher p, both as logarithms; the
// batch mean. Agarwal et al. 2023 (arXiv:2306.13649, eq. 1). Dispatcher op `liger::jsd`.
//   m = beta p + (1 - beta) q,  term = beta p (log p - log m) + (1 - beta) q (log q - log m)
//   d term / d log_q = (1 - beta) q (log q - log m)
// beta 0 stands for KL(p || q) and beta 1 for KL(q || p), the limits of the divergence over beta
// and over 1 - beta (as TRL's GKD has them).
at::Tensor Jsd(const at::Tensor& log_q_NV, const at::Tensor& log_p_NV,
               const std::optional<at::Tensor>& label_N = std::nullopt,
               const JsdOptions& options = {});

struct TvdOptions {
  Reduction reduction = Reduction::kBatchMean;
  int64_t ignore_index = kIgnoreIndex;
};

// Total variation distance of probabilities. Dispatcher op `liger::tvd`.
//   term = |p - q| / 2,  d term / d p = sign(p - q) / 2
at::Tensor Tvd(const at::Tensor& p_NV, const at::Tensor& q_NV,
               const std::optional<at::Tensor>& label_N = std::nullopt,
               const TvdOptions& options = {});

namespace baseline {
// torch.nn.functional.kl_div, with eps as liger-kernel documents it.
at::Tensor KlDiv(const at::Tensor& log_q_NV, const at::Tensor& target_NV,
                 const KlDivOptions& options = {});
// As TRL's GKD: logsumexp of the two shifted logarithms, and two kl_div.
at::Tensor Jsd(const at::Tensor& log_q_NV, const at::Tensor& log_p_NV,
               const std::optional<at::Tensor>& label_N = std::nullopt,
               const JsdOptions& options = {});
at::Tensor Tvd(const at::Tensor& p_NV, const at::Tensor& q_NV,
               const std::optional<at::Tensor>& label_N = std::nullopt,
               const TvdOptions& options = {});
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_DIVERGENCE_DIVERGENCE_H_
