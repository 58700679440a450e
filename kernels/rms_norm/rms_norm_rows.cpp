#include "kernels/rms_norm/rms_norm_rows.h"

#include <cmath>

#include "kernels/common/row_stats.h"

namespace liger::kernels {
namespace {

template <typename T>
LIGER_INLINE float Forward(const T* x, const float* w, int64_t H, double eps, bool round_xhat,
                           T* y) {
  double squares = 0;
  for (int64_t first = 0; first < H; first += kSumChunk) {
    const int64_t last = first + kSumChunk < H ? first + kSumChunk : H;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t h = first; h < last; ++h) sum += ToFloat(x[h]) * ToFloat(x[h]);
    squares += static_cast<double>(sum);
  }
  const float rstd = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(H) + eps));
  if (round_xhat) {
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) y[h] = FromFloat<T>(RoundTo<T>(ToFloat(x[h]) * rstd) * w[h]);
  } else {
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) y[h] = FromFloat<T>(ToFloat(x[h]) * rstd * w[h]);
  }
  return rstd;
}

template <typename T>
LIGER_INLINE void Backward(const T* dy, const T* x, const float* w, float rstd, int64_t H,
                           bool round_xhat, const T* dsum, T* dx, float* dw) {
  if (dx != nullptr) {
    double dot = 0;
    for (int64_t first = 0; first < H; first += kSumChunk) {
      const int64_t last = first + kSumChunk < H ? first + kSumChunk : H;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t h = first; h < last; ++h) sum += ToFloat(dy[h]) * w[h] * ToFloat(x[h]);
      dot += static_cast<double>(sum);
    }
    // dot * rstd / H is the mean of dy w xhat.
    const float c = static_cast<float>(dot * rstd * rstd / static_cast<double>(H));
    if (dsum != nullptr) {
#pragma omp simd
      for (int64_t h = 0; h < H; ++h) {
        const float through = rstd * (ToFloat(dy[h]) * w[h] - c * ToFloat(x[h]));
        dx[h] = FromFloat<T>(through + ToFloat(dsum[h]));
      }
    } else {
#pragma omp simd
      for (int64_t h = 0; h < H; ++h) {
        dx[h] = FromFloat<T>(rstd * (ToFloat(dy[h]) * w[h] - c * ToFloat(x[h])));
      }
    }
  }
  if (dw != nullptr && round_xhat) {
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) dw[h] += ToFloat(dy[h]) * RoundTo<T>(ToFloat(x[h]) * rstd);
  } else if (dw != nullptr) {
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) dw[h] += ToFloat(dy[h]) * (ToFloat(x[h]) * rstd);
  }
}

template <typename T>
LIGER_INLINE void Add(const T* a, const T* b, int64_t H, T* out) {
#pragma omp simd
  for (int64_t h = 0; h < H; ++h) out[h] = FromFloat<T>(ToFloat(a[h]) + ToFloat(b[h]));
}

}  // namespace

LIGER_VECTOR_CLONES void AddRow(const float* a, const float* b, int64_t H, float* out) {
  Add(a, b, H, out);
}
LIGER_VECTOR_CLONES void AddRow(const Bf16* a, const Bf16* b, int64_t H, Bf16* out) {
  Add(a, b, H, out);
}

LIGER_VECTOR_CLONES float RmsNormRow(const float* x, const float* w, int64_t H, double eps,
                                     bool round_xhat, float* y) {
  return Forward(x, w, H, eps, round_xhat, y);
}
LIGER_VECTOR_CLONES float RmsNormRow(const Bf16* x, const float* w, int64_t H, double eps,
                                     bool round_xhat, Bf16* y) {
  return Forward(x, w, H, eps, round_xhat, y);
}

LIGER_VECTOR_CLONES void RmsNormBackwardRow(const float* dy, const float* x, const float* w,
                                            float rstd, int64_t H, bool round_xhat,
                                            const float* dsum, float* dx, float* dw) {
  Backward(dy, x, w, rstd, H, round_xhat, dsum, dx, dw);
}
LIGER_VECTOR_CLONES void RmsNormBackwardRow(const Bf16* dy, const Bf16* x, const float* w,
                                            float rstd, int64_t H, bool round_xhat,
                                            const Bf16* dsum, Bf16* dx, float* dw) {
  Backward(dy, x, w, rstd, H, round_xhat, dsum, dx, dw);
}

}  // namespace liger::kernels
