#include "kernels/group_norm/group_norm_rows.h"

namespace liger::kernels {
namespace {

template <typename T>
LIGER_INLINE RowStats Forward(const T* x, const float* w, const float* b, int64_t channels,
                              int64_t L, double eps, T* y) {
  const RowStats stats = MeanAndRstd(x, channels * L, eps);
  const float mean = stats.mean, rstd = stats.rstd;
  for (int64_t c = 0; c < channels; ++c) {
    const float wc = w[c], bc = b[c];
    const T* in = x + c * L;
    T* out = y + c * L;
#pragma omp simd
    for (int64_t l = 0; l < L; ++l) out[l] = FromFloat<T>((ToFloat(in[l]) - mean) * rstd * wc + bc);
  }
  return stats;
}

template <typename T>
LIGER_INLINE void Backward(const T* dy, const T* x, const float* w, RowStats stats,
                           int64_t channels, int64_t L, T* dx, float* dw, float* db) {
  const float mean = stats.mean, rstd = stats.rstd;
  double total_g = 0, total_gx = 0;
  for (int64_t c = 0; c < channels; ++c) {
    double total_d = 0, total_dx = 0;
    for (int64_t first = c * L; first < (c + 1) * L; first += kSumChunk) {
      const int64_t last = first + kSumChunk < (c + 1) * L ? first + kSumChunk : (c + 1) * L;
      float sum_d = 0, sum_dx = 0;
#pragma omp simd reduction(+ : sum_d, sum_dx)
      for (int64_t i = first; i < last; ++i) {
        const float d = ToFloat(dy[i]);
        sum_d += d;
        sum_dx += d * ((ToFloat(x[i]) - mean) * rstd);
      }
      total_d += static_cast<double>(sum_d);
      total_dx += static_cast<double>(sum_dx);
    }
    if (dw != nullptr) dw[c] += static_cast<float>(total_dx);
    if (db != nullptr) db[c] += static_cast<float>(total_d);
    total_g += static_cast<double>(w[c]) * total_d;
    total_gx += static_cast<double>(w[c]) * total_dx;
  }
  if (dx == nullptr) return;
  const double n = static_cast<double>(channels * L);
  const float mean_g = static_cast<float>(total_g / n), mean_gx = static_cast<float>(total_gx / n);
  for (int64_t c = 0; c < channels; ++c) {
    const float wc = w[c];
#pragma omp simd
    for (int64_t i = c * L; i < (c + 1) * L; ++i) {
      const float xhat = (ToFloat(x[i]) - mean) * rstd;
      dx[i] = FromFloat<T>(rstd * (ToFloat(dy[i]) * wc - mean_g - xhat * mean_gx));
    }
  }
}

}  // namespace

LIGER_VECTOR_CLONES RowStats GroupNormRow(const float* x, const float* w, const float* b,
                                          int64_t channels, int64_t L, double eps, float* y) {
  return Forward(x, w, b, channels, L, eps, y);
}
LIGER_VECTOR_CLONES RowStats GroupNormRow(const Bf16* x, const float* w, const float* b,
                                          int64_t channels, int64_t L, double eps, Bf16* y) {
  return Forward(x, w, b, channels, L, eps, y);
}

LIGER_VECTOR_CLONES void GroupNormBackwardRow(const float* dy, const float* x, const float* w,
                                              RowStats stats, int64_t channels, int64_t L,
                                              float* dx, float* dw, float* db) {
  Backward(dy, x, w, stats, channels, L, dx, dw, db);
}
LIGER_VECTOR_CLONES void GroupNormBackwardRow(const Bf16* dy, const Bf16* x, const float* w,
                                              RowStats stats, int64_t channels, int64_t L, Bf16* dx,
                                              float* dw, float* db) {
  Backward(dy, x, w, stats, channels, L, dx, dw, db);
}

}  // namespace liger::kernels
