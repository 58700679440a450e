#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
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
    const double weighted_p = beta * p, weighted_q = (1 - beta) * q;
    const double log_m = std::log(weighted_p + weighted_q);
    const double of_q = TimesLog(weighted_q, x - log_m);
    return std::pair(TimesLog(weighted_p, y - log_m) + of_q, of_q);
  });
}

Result Tvd(const at::Tensor& p, const at::Tensor& q, const at::Tensor& label, Reduction reduction,
           const at::Tensor& grad) {
  return Sum(p, q, &label, reduction, grad, [](double x, double y) {
    return std::pair(std::abs(x - y) / 2, x > y ? 0.5 : x < y ? -0.5 : 0.0);
  });
}

namespace {

// log_softmax((hidden weight^T + bias) / temperature).
at::Tensor HeadLogProbs(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
                        double temperature) {
  const int64_t T = hidden.size(0), H = hidden.size(1), V = weight.size(0);
  const auto X = hidden.accessor<double, 2>(), W = weight.accessor<double, 2>();
  at::Tensor out = at::zeros({T, V}, at::kDouble);
  auto Z = out.accessor<double, 2>();
  for (int64_t t = 0; t < T; ++t) {
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t v = 0; v < V; ++v) {
      Z[t][v] = bias.data_ptr<double>()[v] / temperature;
      for (int64_t h = 0; h < H; ++h) Z[t][v] += X[t][h] * W[v][h] / temperature;
      top = std::max(top, Z[t][v]);
    }
    for (int64_t v = 0; v < V; ++v) sum += std::exp(Z[t][v] - top);
    for (int64_t v = 0; v < V; ++v) Z[t][v] -= top + std::log(sum);
  }
  return out;
}

}  // namespace

// With g = d loss / d log_q: d loss / d z_v = (g_v - q_v sum of g) / temperature.
Result FusedLinearJsd(const at::Tensor& hidden, const at::Tensor& weight,
                      const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                      const at::Tensor& label, const at::Tensor& bias,
                      const at::Tensor& teacher_bias, double beta, double temperature,
                      const at::Tensor& grad) {
  const int64_t T = hidden.size(0), H = hidden.size(1), V = weight.size(0);
  const at::Tensor log_q = HeadLogProbs(hidden, weight, bias, temperature);
  const at::Tensor log_p = HeadLogProbs(teacher_hidden, teacher_weight, teacher_bias, temperature);
  const Result jsd = Jsd(log_q, log_p, label, beta, grad);
  const auto X = hidden.accessor<double, 2>(), W = weight.accessor<double, 2>();
  const auto G = jsd.grads[0].accessor<double, 2>(), LogQ = log_q.accessor<double, 2>();
  at::Tensor dh = at::zeros_like(hidden), dw = at::zeros_like(weight), db = at::zeros_like(bias);
  auto DX = dh.accessor<double, 2>(), DW = dw.accessor<double, 2>();
  for (int64_t t = 0; t < T; ++t) {
    double sum = 0;
    for (int64_t v = 0; v < V; ++v) sum += G[t][v];
    for (int64_t v = 0; v < V; ++v) {
      const double dz = (G[t][v] - std::exp(LogQ[t][v]) * sum) / temperature;
      db.data_ptr<double>()[v] += dz;
      for (int64_t h = 0; h < H; ++h) {
        DX[t][h] += dz * W[v][h];
        DW[v][h] += dz * X[t][h];
      }
    }
  }
  return {jsd.outputs, {dh, dw, db}};
}

}  // namespace liger::kernels::reference
