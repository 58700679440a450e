#include "kernels/dyt/dyt_rows.h"

#include "kernels/common/row_stats.h"

namespace liger::kernels {
namespace {

template <typename T>
LIGER_INLINE void Forward(const T* x, float alpha, const float* gamma, const float* beta, int64_t H,
                          T* y) {
#pragma omp simd
  for (int64_t h = 0; h < H; ++h) {
    y[h] = FromFloat<T>(gamma[h] * Tanh(alpha * ToFloat(x[h])) + beta[h]);
  }
}

template <typename T>
LIGER_INLINE double Backward(const T* dy, const T* x, float alpha, const float* gamma, int64_t H,
                             T* dx, float* dgamma, float* dbeta) {
  double total = 0;
  for (int64_t first = 0; first < H; first += kSumChunk) {
    const int64_t last = first + kSumChunk < H ? first + kSumChunk : H;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t h = first; h < last; ++h) {
      const float t = Tanh(alpha * ToFloat(x[h]));
      sum += ToFloat(dy[h]) * gamma[h] * (1.0f - t * t) * ToFloat(x[h]);
    }
    total += static_cast<double>(sum);
  }
  if (dx != nullptr) {
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) {
      const float t = Tanh(alpha * ToFloat(x[h]));
      dx[h] = FromFloat<T>(ToFloat(dy[h]) * gamma[h] * (1.0f - t * t) * alpha);
    }
  }
  if (dgamma != nullptr) {
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) dgamma[h] += ToFloat(dy[h]) * Tanh(alpha * ToFloat(x[h]));
  }
  if (dbeta != nullptr) {
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) dbeta[h] += ToFloat(dy[h]);
  }
  return total;
}

}  // namespace

LIGER_VECTOR_CLONES void DytRow(const float* x, float alpha, const float* gamma, const float* beta,
                                int64_t H, float* y) {
  Forward(x, alpha, gamma, beta, H, y);
}
LIGER_VECTOR_CLONES void DytRow(const Bf16* x, float alpha, const float* gamma, const float* beta,
                                int64_t H, Bf16* y) {
  Forward(x, alpha, gamma, beta, H, y);
}

LIGER_VECTOR_CLONES double DytBackwardRow(const float* dy, const float* x, float alpha,
                                          const float* gamma, int64_t H, float* dx, float* dgamma,
                                          float* dbeta) {
  return Backward(dy, x, alpha, gamma, H, dx, dgamma, dbeta);
}
LIGER_VECTOR_CLONES double DytBackwardRow(const Bf16* dy, const Bf16* x, float alpha,
                                          const float* gamma, int64_t H, Bf16* dx, float* dgamma,
                                          float* dbeta) {
  return Backward(dy, x, alpha, gamma, H, dx, dgamma, dbeta);
}

}  // namespace liger::kernels
