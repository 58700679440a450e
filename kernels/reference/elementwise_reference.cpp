#include <ATen/ATen.h>

#include <cmath>

#include "kernels/reference/reference.h"

namespace liger::kernels::reference {

Result Linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
              const at::Tensor& grad) {
  const int64_t T = x.size(0), K = x.size(1), N = weight.size(0);
  at::Tensor y = at::zeros({T, N}, at::kDouble);
  at::Tensor dx = at::zeros_like(x), dw = at::zeros_like(weight), db = at::zeros_like(bias);
  const auto X = x.accessor<double, 2>(), W = weight.accessor<double, 2>();
  const auto G = grad.accessor<double, 2>();
  const auto B = bias.accessor<double, 1>();
  auto Y = y.accessor<double, 2>(), DX = dx.accessor<double, 2>(), DW = dw.accessor<double, 2>();
  auto DB = db.accessor<double, 1>();
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t n = 0; n < N; ++n) {
      Y[t][n] = B[n];
      DB[n] += G[t][n];
      for (int64_t k = 0; k < K; ++k) {
        Y[t][n] += X[t][k] * W[n][k];
        DX[t][k] += G[t][n] * W[n][k];
        DW[n][k] += G[t][n] * X[t][k];
      }
    }
  }
  return {{y}, {dx, dw, db}};
}

// y_h = x_h r w_h with r = (mean x^2 + eps)^-1/2, so
// dx_h = r g_h w_h - x_h r^3 / H sum_j g_j w_j x_j.
Result RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps, double offset,
               const at::Tensor& grad) {
  const int64_t T = x.size(0), H = x.size(1);
  at::Tensor y = at::zeros_like(x), dx = at::zeros_like(x), dw = at::zeros_like(weight);
  const auto X = x.accessor<double, 2>(), G = grad.accessor<double, 2>();
  const auto W = weight.accessor<double, 1>();
  auto Y = y.accessor<double, 2>(), DX = dx.accessor<double, 2>();
  auto DW = dw.accessor<double, 1>();
  for (int64_t t = 0; t < T; ++t) {
    double sum_sq = 0, dot = 0;
    for (int64_t h = 0; h < H; ++h) sum_sq += X[t][h] * X[t][h];
    const double r = 1 / std::sqrt(sum_sq / static_cast<double>(H) + eps);
    for (int64_t h = 0; h < H; ++h) dot += G[t][h] * (W[h] + offset) * X[t][h];
    for (int64_t h = 0; h < H; ++h) {
      const double w = W[h] + offset;
      Y[t][h] = X[t][h] * r * w;
      DX[t][h] = r * G[t][h] * w - X[t][h] * r * r * r / static_cast<double>(H) * dot;
      DW[h] += G[t][h] * X[t][h] * r;
    }
  }
  return {{y}, {dx, dw}};
}

namespace {

// Which table of [3, T, R] pair i takes; 0 of the one of [1, T, R].
int64_t AxisOf(int64_t i, at::IntArrayRef section) {
  int64_t axis = 0, end = section.empty() ? i + 1 : section[0];
  while (i >= end) end += section[static_cast<size_t>(++axis)];
  return axis;
}

// Element i of the rotation of x and the transpose of that rotation, from the definition
// y = x * cos + rotate_half(x) * sin.
void RopeOne(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
             const at::Tensor& grad, at::IntArrayRef section, at::Tensor& y, at::Tensor& dx) {
  const int64_t T = x.size(0), N = x.size(1), D = x.size(2), R = cos.size(-1);
  const auto X = x.accessor<double, 3>(), G = grad.accessor<double, 3>();
  const at::Tensor cos_ATR = section.empty() ? cos.unsqueeze(0) : cos;
  const at::Tensor sin_ATR = section.empty() ? sin.unsqueeze(0) : sin;
  const auto C = cos_ATR.accessor<double, 3>(), S = sin_ATR.accessor<double, 3>();
  auto Y = y.accessor<double, 3>(), DX = dx.accessor<double, 3>();
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t n = 0; n < N; ++n) {
      for (int64_t i = 0; i < D; ++i) {
        if (i >= R) {
          Y[t][n][i] = X[t][n][i];
          DX[t][n][i] += G[t][n][i];
          continue;
        }
        const int64_t partner = i < R / 2 ? i + R / 2 : i - R / 2;
        const double sign = i < R / 2 ? -1 : 1;
        const int64_t axis = AxisOf(i % (R / 2), section);
        const double c = C[axis][t][i], s = S[axis][t][i];
        Y[t][n][i] = X[t][n][i] * c + sign * X[t][n][partner] * s;
        DX[t][n][i] += G[t][n][i] * c;
        DX[t][n][partner] += G[t][n][i] * sign * s;
      }
    }
  }
}

}  // namespace

Result Rope(const at::Tensor& q, const at::Tensor& k, const at::Tensor& cos, const at::Tensor& sin,
            const at::Tensor& grad_q, const at::Tensor& grad_k, at::IntArrayRef section) {
  at::Tensor q_out = at::zeros_like(q), k_out = at::zeros_like(k);
  at::Tensor dq = at::zeros_like(q), dk = at::zeros_like(k);
  RopeOne(q, cos, sin, grad_q, section, q_out, dq);
  RopeOne(k, cos, sin, grad_k, section, k_out, dk);
  return {{q_out, k_out}, {dq, dk}};
}

Result Swiglu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& grad) {
  at::Tensor y = at::zeros_like(gate), dgate = at::zeros_like(gate), dup = at::zeros_like(gate);
  const double *g = gate.data_ptr<double>(), *u = up.data_ptr<double>();
  const double* dy = grad.data_ptr<double>();
  for (int64_t i = 0; i < gate.numel(); ++i) {
    const double sigmoid = 1 / (1 + std::exp(-g[i]));
    const double silu = g[i] * sigmoid;
    y.data_ptr<double>()[i] = silu * u[i];
    dup.data_ptr<double>()[i] = dy[i] * silu;
    dgate.data_ptr<double>()[i] = dy[i] * u[i] * (sigmoid + silu * (1 - sigmoid));
  }
  return {{y}, {dgate, dup}};
}

Result MatmulInt2xInt8(const at::Tensor& x, const at::Tensor& packed) {
  const int64_t M = x.size(0), R = packed.size(0), N = packed.size(1);
  at::Tensor y = at::zeros({M, N}, at::kDouble);
  const auto X = x.accessor<int8_t, 2>();
  const auto W = packed.accessor<uint8_t, 2>();
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) {
      int64_t sum = 0;
      for (int64_t k = 0; k < 4 * R; ++k) {
        const int code = W[k % R][n] >> (2 * (k / R)) & 3;
        sum += int64_t{X[m][k]} * (code - 1);
      }
      y.data_ptr<double>()[m * N + n] = static_cast<double>(sum);
    }
  }
  return {{y}, {}};
}

}  // namespace liger::kernels::reference
