#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/norm_reference.h"

namespace liger::kernels::reference {

// With xhat = (x - m) r over the n elements of a group and g = dy w: from
// d xhat_j / d x_i = r (delta_ij - 1 / n - xhat_i xhat_j / n).
Result GroupNorm(const at::Tensor& x, int64_t num_groups, const at::Tensor& weight,
                 const at::Tensor& bias, double eps, const at::Tensor& grad) {
  const int64_t N = x.size(0), C = x.size(1), L = x.numel() / std::max<int64_t>(1, N * C);
  const int64_t size = C / num_groups * L;
  const double n = static_cast<double>(size);
  at::Tensor y = at::zeros_like(x), dx = at::zeros_like(x);
  at::Tensor dw = at::zeros_like(weight), db = at::zeros_like(weight);
  const double *X = x.data_ptr<double>(), *G = grad.data_ptr<double>();
  const double* W = weight.data_ptr<double>();
  for (int64_t group = 0; group < N * num_groups; ++group) {
    const int64_t first = group * size;
    const auto channel = [&](int64_t i) { return i / L % C; };
    double mean = 0, variance = 0, sum = 0, dot = 0;
    for (int64_t i = first; i < first + size; ++i) mean += X[i];
    mean /= n;
    for (int64_t i = first; i < first + size; ++i) variance += (X[i] - mean) * (X[i] - mean);
    const double r = 1 / std::sqrt(variance / n + eps);
    for (int64_t i = first; i < first + size; ++i) {
      const double xhat = (X[i] - mean) * r, w = W[channel(i)];
      y.data_ptr<double>()[i] =
          xhat * w + (bias.defined() ? bias.data_ptr<double>()[channel(i)] : 0);
      sum += G[i] * w;
      dot += G[i] * w * xhat;
      dw.data_ptr<double>()[channel(i)] += G[i] * xhat;
      db.data_ptr<double>()[channel(i)] += G[i];
    }
    for (int64_t i = first; i < first + size; ++i) {
      const double xhat = (X[i] - mean) * r;
      dx.data_ptr<double>()[i] = r * (G[i] * W[channel(i)] - sum / n - xhat * dot / n);
    }
  }
  if (!bias.defined()) return {{y}, {dx, dw}};
  return {{y}, {dx, dw, db}};
}

Result Softmax(const at::Tensor& x, const at::Tensor& grad) {
  const int64_t T = x.size(0), H = x.size(1);
  at::Tensor y = at::zeros_like(x), dx = at::zeros_like(x);
  for (int64_t t = 0; t < T; ++t) {
    const double *in = x.data_ptr<double>() + t * H, *g = grad.data_ptr<double>() + t * H;
    double *out = y.data_ptr<double>() + t * H, *d = dx.data_ptr<double>() + t * H;
    const double top = *std::max_element(in, in + H);
    double sum = 0, dot = 0;
    for (int64_t h = 0; h < H; ++h) sum += std::exp(in[h] - top);
    for (int64_t h = 0; h < H; ++h) {
      out[h] = std::exp(in[h] - top) / sum;
      dot += out[h] * g[h];
    }
    for (int64_t h = 0; h < H; ++h) d[h] = out[h] * (g[h] - dot);
  }
  return {{y}, {dx}};
}

Result Dyt(const at::Tensor& x, const at::Tensor& alpha, const at::Tensor& gamma,
           const at::Tensor& beta, const at::Tensor& grad) {
  const int64_t T = x.size(0), H = x.size(1);
  const double a = alpha.data_ptr<double>()[0];
  at::Tensor y = at::zeros_like(x), dx = at::zeros_like(x), dalpha = at::zeros_like(alpha);
  at::Tensor dgamma = at::zeros_like(gamma), dbeta = at::zeros_like(gamma);
  for (int64_t i = 0; i < T * H; ++i) {
    const int64_t h = i % H;
    const double z = x.data_ptr<double>()[i], g = grad.data_ptr<double>()[i];
    const double t = std::tanh(a * z), w = gamma.data_ptr<double>()[h];
    const double slope = 1 / (std::cosh(a * z) * std::cosh(a * z));
    y.data_ptr<double>()[i] = w * t + (beta.defined() ? beta.data_ptr<double>()[h] : 0);
    dx.data_ptr<double>()[i] = g * w * slope * a;
    dalpha.data_ptr<double>()[0] += g * w * slope * z;
    dgamma.data_ptr<double>()[h] += g * t;
    dbeta.data_ptr<double>()[h] += g;
  }
  if (!beta.defined()) return {{y}, {dx, dalpha, dgamma}};
  return {{y}, {dx, dalpha, dgamma, dbeta}};
}

}  // namespace liger::kernels::reference
