#include "kernels/reference/norm_reference.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

namespace liger::kernels::reference {

Result Geglu(const at::Tensor& gate, const at::Tensor& up, bool tanh, const at::Tensor& grad) {
  using std::numbers::pi;
  at::Tensor y = at::zeros_like(gate), dgate = at::zeros_like(gate), dup = at::zeros_like(gate);
  const double *g = gate.data_ptr<double>(), *u = up.data_ptr<double>();
  const double* dy = grad.data_ptr<double>();
  for (int64_t i = 0; i < gate.numel(); ++i) {
    const double z = g[i];
    double phi = std::erfc(-z / std::sqrt(2.0)) / 2;
    double dphi = std::exp(-z * z / 2) / std::sqrt(2 * pi);
    if (tanh) {
      const double t = std::tanh(std::sqrt(2 / pi) * (z + 0.044715 * z * z * z));
      phi = (1 + t) / 2;
      dphi = (1 - t * t) / 2 * std::sqrt(2 / pi) * (1 + 3 * 0.044715 * z * z);
    }
    y.data_ptr<double>()[i] = z * phi * u[i];
    dup.data_ptr<double>()[i] = dy[i] * z * phi;
    dgate.data_ptr<double>()[i] = dy[i] * u[i] * (phi + z * dphi);
  }
  return {{y}, {dgate, dup}};
}

Result FusedAddRmsNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                       double eps, double offset, const at::Tensor& grad_y,
                       const at::Tensor& grad_sum) {
  at::Tensor sum = at::zeros_like(x);
  for (int64_t i = 0; i < x.numel(); ++i) {
    sum.data_ptr<double>()[i] = x.data_ptr<double>()[i] + residual.data_ptr<double>()[i];
  }
  const Result norm = RmsNorm(sum, weight, eps, offset, grad_y);
  at::Tensor dx = at::zeros_like(x);
  for (int64_t i = 0; i < x.numel(); ++i) {
    dx.data_ptr<double>()[i] = norm.grads[0].data_ptr<double>()[i] + grad_sum.data_ptr<double>()[i];
  }
  return {{norm.outputs[0], sum}, {dx, dx, norm.grads[1]}};
}

// y_h = xhat_h w_h + b_h with xhat_h = (x_h - m) r, r = (var + eps)^-1/2. From
// d xhat_j / d x_h = r (delta_jh - 1 / H - xhat_j xhat_h / H):
// dx_h = sum_j g_j w_j r (delta_jh - 1 / H - xhat_j xhat_h / H).
Result LayerNorm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                 const at::Tensor& grad) {
  const int64_t T = x.size(0), H = x.size(1);
  const double n = static_cast<double>(H);
  at::Tensor y = at::zeros_like(x), dx = at::zeros_like(x);
  at::Tensor dw = at::zeros_like(weight), db = at::zeros_like(weight);
  const auto X = x.accessor<double, 2>(), G = grad.accessor<double, 2>();
  const auto W = weight.accessor<double, 1>();
  auto Y = y.accessor<double, 2>(), DX = dx.accessor<double, 2>();
  auto DW = dw.accessor<double, 1>(), DB = db.accessor<double, 1>();
  for (int64_t t = 0; t < T; ++t) {
    double mean = 0, variance = 0, sum = 0, dot = 0;
    for (int64_t h = 0; h < H; ++h) mean += X[t][h] / n;
    for (int64_t h = 0; h < H; ++h) variance += (X[t][h] - mean) * (X[t][h] - mean) / n;
    const double r = 1 / std::sqrt(variance + eps);
    for (int64_t h = 0; h < H; ++h) {
      const double xhat = (X[t][h] - mean) * r;
      Y[t][h] = xhat * W[h] + (bias.defined() ? bias.data_ptr<double>()[h] : 0);
      sum += G[t][h] * W[h];
      dot += G[t][h] * W[h] * xhat;
      DW[h] += G[t][h] * xhat;
      DB[h] += G[t][h];
    }
    for (int64_t h = 0; h < H; ++h) {
      DX[t][h] = r * (G[t][h] * W[h] - sum / n - (X[t][h] - mean) * r * dot / n);
    }
  }
  if (!bias.defined()) return {{y}, {dx, dw}};
  return {{y}, {dx, dw, db}};
}

Result Embedding(const at::Tensor& ids, const at::Tensor& weight, const at::Tensor& grad) {
  const int64_t T = ids.size(0), H = weight.size(1);
  at::Tensor y = at::zeros({T, H}, at::kDouble), dw = at::zeros_like(weight);
  const auto W = weight.accessor<double, 2>(), G = grad.accessor<double, 2>();
  auto Y = y.accessor<double, 2>(), DW = dw.accessor<double, 2>();
  for (int64_t t = 0; t < T; ++t) {
    const int64_t v = ids.data_ptr<int64_t>()[t];
    for (int64_t h = 0; h < H; ++h) {
      Y[t][h] = W[v][h];
      DW[v][h] += G[t][h];
    }
  }
  return {{y}, {dw}};
}

}  // namespace liger::kernels::reference
