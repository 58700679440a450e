#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "kernels/reference/loss_reference.h"

namespace liger::kernels::reference {
namespace {

// (x, y) -> a class's share of the divergence, and its derivative by x.
using TermFn = std::function<std::pair<double, double>(double x, double y)>;

Result Sum(const at::Tensor& x, const at::Tensor& y, const at::Tensor* label, Reduction reduction,
           const at::Tensor& grad, const TermFn& term) {
  const int64_t N = x.size(0), V = x.size(1);
  at::Tensor terms = at::zeros_like(x), dx = at::zeros_like(x);
  double rows = 0, sum = 0;
  for (int64_t n = 0; n < N; ++n) {
    if (label != nullptr && label->data_ptr<int64_t>()[n] == kIgnoreIndex) continue;
    rows += 1;
    for (int64_t i = n * V; i < (n + 1) * V; ++i) {
      const auto [loss, slope] = term(x.data_ptr<double>()[i], y.data_ptr<double>()[i]);
      terms.data_ptr<double>()[i] = loss;
      dx.data_ptr<double>()[i] = slope * grad.data_ptr<double>()[grad.dim() == 0 ? 0 : i];
      sum += loss;
    }
  }
  if (reduction == Reduction::kNone) return {{terms}, {dx}};
  double divisor = 1;
  if (reduction == Reduction::kBatchMean) divisor = rows;
  if (reduction == Reduction::kMean) divisor = rows * static_cast<double>(V);
  if (divisor == 0) divisor = 1;
  return {{at::scalar_tensor(sum / divisor, at::kDouble)}, {dx / divisor}};
}

double TimesLog(double p, double log_ratio) { return p == 0 ? 0 : p * log_ratio; }

}  // namespace

Result KlDiv(const at::Tensor& log_q, const at::Tensor& target, const KlDivOptions& options,
             const at::Tensor& grad) {
  return Sum(log_q, target, nullptr, options.reduction, grad, [&](double x, double y) {
    const double p = options.log_target ? std::exp(y) : y;
    const double log_p = options.log_target ? y : std::log(std::max(y, options.eps));
    return std::pair(TimesLog(p, log_p - x), -p);
  });
}

Result Jsd(const at::Tensor& log_q, const at::Tensor& log_p, const at::Tensor& label, double beta,
           const at::Tensor& grad) {
  return Sum(log_q, log_p, &label, Reduction::kBatchMean, grad, [&](double x, double y) {
    const double q = std::exp(x), p = std::exp(y);
    if (beta == 0) return std::pair(TimesLog(p, y - x), -p);
    if (beta == 1) return std::pair(TimesLog(q, x - y), q * (x - y) + q);
    const double log_m = std::log(beta * p + (1 - beta) * q);
    const double of_q = (1 - beta) * TimesLog(q, x - log_m);
    return std::pair(beta * TimesLog(p, y - log_m) + of_q, of_q);
  });
}

Result Tvd(const at::Tensor& p, const at::Tensor& q, const at::Tensor& label, Reduction reduction,
           const at::Tensor& grad) {
  return Sum(p, q, &label, reduction, grad, [](double x, double y) {
    return std::pair(std::abs(x - y) / 2, x > y ? 0.5 : x < y ? -0.5 : 0.0);
  });
}

}  // namespace liger::kernels::reference
