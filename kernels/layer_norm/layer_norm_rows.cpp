#include "kernels/layer_norm/layer_norm_rows.h"

namespace liger::kernels {
namespace {

template <typename T>
LIGER_INLINE LayerNormStats Forward(const T* x, const float* w, const float* b, int64_t H,
                                    double eps, T* y) {
  const LayerNormStats stats = MeanAndRstd(x, H, eps);
  const float mean = stats.mean, rstd = stats.rstd;
#pragma omp simd
  for (int64_t h = 0; h < H; ++h) {
    y[h] = FromFloat<T>((ToFloat(x[h]) - mean) * rstd * w[h] + b[h]);
  }
  return stats;
}

template <typename T>
LIGER_INLINE void Backward(const T* dy, const T* x, const float* w, LayerNormStats stats, int64_t H,
                           T* dx, float* dw, float* db) {
  const float mean = stats.mean, rstd = stats.rstd;
  if (dx != nullptr) {
    double total_g = 0, total_gx = 0;
    for (int64_t first = 0; first < H; first += kSumChunk) {
      const int64_t last = first + kSumChunk < H ? first + kSumChunk : H;
      float sum_g = 0, sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
      for (int64_t h = first; h < last; ++h) {
        const float g = ToFloat(dy[h]) * w[h];
        sum_g += g;
        sum_gx += g * ((ToFloat(x[h]) - mean) * rstd);
      }
      total_g += static_cast<double>(sum_g);
      total_gx += static_cast<double>(sum_gx);
    }
    const float mean_g = static_cast<float>(total_g / static_cast<double>(H));
    const float mean_gx = static_cast<float>(total_gx / static_cast<double>(H));
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) {
      const float xhat = (ToFloat(x[h]) - mean) * rstd;
      dx[h] = FromFloat<T>(rstd * (ToFloat(dy[h]) * w[h] - mean_g - xhat * mean_gx));
    }
  }
  if (dw != nullptr) {
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) dw[h] += ToFloat(dy[h]) * ((ToFloat(x[h]) - mean) * rstd);
  }
  if (db != nullptr) {
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) db[h] += ToFloat(dy[h]);
  }
}

}  // namespace

LIGER_VECTOR_CLONES LayerNormStats LayerNormRow(const float* x, const float* w, const float* b,
                                                int64_t H, double eps, float* y) {
  return Forward(x, w, b, H, eps, y);
}
LIGER_VECTOR_CLONES LayerNormStats LayerNormRow(const Bf16* x, const float* w, const float* b,
                                                int64_t H, double eps, Bf16* y) {
  return Forward(x, w, b, H, eps, y);
}

LIGER_VECTOR_CLONES void LayerNormBackwardRow(const float* dy, const float* x, const float* w,
                                              LayerNormStats stats, int64_t H, float* dx, float* dw,
                                              float* db) {
  Backward(dy, x, w, stats, H, dx, dw, db);
}
LIGER_VECTOR_CLONES void LayerNormBackwardRow(const Bf16* dy, const Bf16* x, const float* w,
                                              LayerNormStats stats, int64_t H, Bf16* dx, float* dw,
                                              float* db) {
  Backward(dy, x, w, stats, H, dx, dw, db);
}

}  // namespace liger::kernels
