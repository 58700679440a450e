#include "kernels/layer_norm/layer_norm_rows.h"

#include <cmath>

namespace liger::kernels {
namespace {

// Sums of more than so many terms are taken in double: rounding grows with a
// float sum's length.
constexpr int64_t kChunk = 1024;

template <typename T>
LIGER_INLINE LayerNormStats Forward(const T* x, const float* w, const float* b, int64_t H,
                                    double eps, T* y) {
  double total = 0, squares = 0;
  for (int64_t first = 0; first < H; first += kChunk) {
    const int64_t last = first + kChunk < H ? first + kChunk : H;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t h = first; h < last; ++h) sum += ToFloat(x[h]);
    total += static_cast<double>(sum);
  }
  const float mean = static_cast<float>(total / static_cast<double>(H));
  for (int64_t first = 0; first < H; first += kChunk) {
    const int64_t last = first + kChunk < H ? first + kChunk : H;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t h = first; h < last; ++h) {
      const float centred = ToFloat(x[h]) - mean;
      sum += centred * centred;
    }
    squares += static_cast<double>(sum);
  }
  const float rstd = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(H) + eps));
#pragma omp simd
  for (int64_t h = 0; h < H; ++h) {
    y[h] = FromFloat<T>((ToFloat(x[h]) - mean) * rstd * w[h] + b[h]);
  }
  return {mean, rstd};
}

template <typename T>
LIGER_INLINE void Backward(const T* dy, const T* x, const float* w, LayerNormStats stats, int64_t H,
                           T* dx, float* dw, float* db) {
  const float mean = stats.mean, rstd = stats.rstd;
  if (dx != nullptr) {
    double total_g = 0, total_gx = 0;
    for (int64_t first = 0; first < H; first += kChunk) {
      const int64_t last = first + kChunk < H ? first + kChunk : H;
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
