#include "kernels/divergence/divergence_baseline.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/common/record.h"

namespace liger::kernels::baseline {
namespace {

at::Tensor Reduce(at::Tensor terms_NV, const std::optional<at::Tensor>& label, Reduction reduction,
                  int64_t ignore_index) {
  at::Tensor valid = at::full({}, terms_NV.size(0), at::kLong);
  if (label.has_value()) {
    const at::Tensor ignored = *label == ignore_index;
    terms_NV = terms_NV.masked_fill(ignored.unsqueeze(1), 0);
    valid = ignored.logical_not().sum();
  }
  if (reduction == Reduction::kNone) return terms_NV;
  const auto wide = terms_NV.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor sum = terms_NV.sum(wide);
  if (reduction == Reduction::kSum) return sum;
  const int64_t V = reduction == Reduction::kMean ? terms_NV.size(1) : 1;
  return sum / (valid * V).clamp_min(1);
}

}  // namespace

at::Tensor KlDiv(const at::Tensor& log_q, const at::Tensor& target, const KlDivOptions& options) {
  RecordPath(Op::kKlDiv, Path::kBaseline);
  const at::Tensor terms = options.log_target || options.eps == 0
                               ? at::kl_div(log_q, target, at::Reduction::None, options.log_target)
                               : target * (target.clamp_min(options.eps).log() - log_q);
  return Reduce(terms, std::nullopt, options.reduction, 0);
}

at::Tensor JsdUnrecorded(const at::Tensor& log_q, const at::Tensor& log_p,
                         const std::optional<at::Tensor>& label, const JsdOptions& options) {
  const auto kl = [](const at::Tensor& input, const at::Tensor& target) {
    return at::kl_div(input, target, at::Reduction::None, /*log_target=*/true);
  };
  const double beta = options.beta;
  at::Tensor terms;
  if (beta == 0) {
    terms = kl(log_q, log_p);
  } else if (beta == 1) {
    terms = kl(log_p, log_q);
  } else {
    const at::Tensor log_m =
        at::logsumexp(at::stack({log_q + std::log1p(-beta), log_p + std::log(beta)}), {0});
    terms = beta * kl(log_m, log_p) + (1 - beta) * kl(log_m, log_q);
  }
  return Reduce(terms, label, Reduction::kBatchMean, options.ignore_index);
}

at::Tensor Jsd(const at::Tensor& log_q, const at::Tensor& log_p,
               const std::optional<at::Tensor>& label, const JsdOptions& options) {
  RecordPath(Op::kJsd, Path::kBaseline);
  return JsdUnrecorded(log_q, log_p, label, options);
}

at::Tensor Tvd(const at::Tensor& p, const at::Tensor& q, const std::optional<at::Tensor>& label,
               const TvdOptions& options) {
  RecordPath(Op::kTvd, Path::kBaseline);
  return Reduce((p - q).abs() * 0.5, label, options.reduction, options.ignore_index);
}

}  // namespace liger::kernels::baseline
