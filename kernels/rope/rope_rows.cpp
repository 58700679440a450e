#include "kernels/rope/rope_rows.h"

namespace liger::kernels {
namespace {

template <typename T>
LIGER_INLINE void Rotate(const T* x, const float* cos, const float* sin, int64_t R, int64_t D,
                         T* y) {
  const int64_t half = R / 2;
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const float a = ToFloat(x[i]), b = ToFloat(x[i + half]);
    y[i] = FromFloat<T>(a * cos[i] - b * sin[i]);
    y[i + half] = FromFloat<T>(b * cos[i + half] + a * sin[i + half]);
  }
  for (int64_t j = R; j < D; ++j) y[j] = x[j];
}

template <typename T>
LIGER_INLINE void RotateBack(const T* dy, const float* cos, const float* sin, int64_t R, int64_t D,
                             T* dx) {
  const int64_t half = R / 2;
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const float a = ToFloat(dy[i]), b = ToFloat(dy[i + half]);
    dx[i] = FromFloat<T>(a * cos[i] + b * sin[i + half]);
    dx[i + half] = FromFloat<T>(b * cos[i + half] - a * sin[i]);
  }
  for (int64_t j = R; j < D; ++j) dx[j] = dy[j];
}

}  // namespace

LIGER_VECTOR_CLONES void RopeRow(const float* x, const float* cos, const float* sin, int64_t R,
                                 int64_t D, float* y) {
  Rotate(x, cos, sin, R, D, y);
}
LIGER_VECTOR_CLONES void RopeRow(const Bf16* x, const float* cos, const float* sin, int64_t R,
                                 int64_t D, Bf16* y) {
  Rotate(x, cos, sin, R, D, y);
}

LIGER_VECTOR_CLONES void RopeBackwardRow(const float* dy, const float* cos, const float* sin,
                                         int64_t R, int64_t D, float* dx) {
  RotateBack(dy, cos, sin, R, D, dx);
}
LIGER_VECTOR_CLONES void RopeBackwardRow(const Bf16* dy, const float* cos, const float* sin,
                                         int64_t R, int64_t D, Bf16* dx) {
  RotateBack(dy, cos, sin, R, D, dx);
}

}  // namespace liger::kernels
