#include "kernels/softmax/softmax_rows.h"

#include <limits>

#include "kernels/common/row_stats.h"

namespace liger::kernels {
namespace {

template <typename T>
LIGER_INLINE void Forward(const T* x, int64_t H, float* e, T* y) {
  float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
  for (int64_t h = 0; h < H; ++h) top = ToFloat(x[h]) > top ? ToFloat(x[h]) : top;
  double total = 0;
  for (int64_t first = 0; first < H; first += kSumChunk) {
    const int64_t last = first + kSumChunk < H ? first + kSumChunk : H;
    float sum = 0;
    // A NaN, which the maximum dropped, is in the sum again. -inf - -inf is one, too.
#pragma omp simd reduction(+ : sum)
    for (int64_t h = first; h < last; ++h) {
      e[h] = Exp(ToFloat(x[h]) - top);
      sum += e[h];
    }
    total += static_cast<double>(sum);
  }
  const float scale = static_cast<float>(1.0 / total);
#pragma omp simd
  for (int64_t h = 0; h < H; ++h) y[h] = FromFloat<T>(e[h] * scale);
}

template <typename T>
LIGER_INLINE void Backward(const T* dy, const T* y, int64_t H, T* dx) {
  double total = 0;
  for (int64_t first = 0; first < H; first += kSumChunk) {
    const int64_t last = first + kSumChunk < H ? first + kSumChunk : H;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t h = first; h < last; ++h) sum += ToFloat(dy[h]) * ToFloat(y[h]);
    total += static_cast<double>(sum);
  }
  const float dot = static_cast<float>(total);
#pragma omp simd
  for (int64_t h = 0; h < H; ++h) dx[h] = FromFloat<T>(ToFloat(y[h]) * (ToFloat(dy[h]) - dot));
}

}  // namespace

LIGER_VECTOR_CLONES void SoftmaxRow(const float* x, int64_t H, float* scratch, float* y) {
  Forward(x, H, scratch, y);
}
LIGER_VECTOR_CLONES void SoftmaxRow(const Bf16* x, int64_t H, float* scratch, Bf16* y) {
  Forward(x, H, scratch, y);
}

LIGER_VECTOR_CLONES void SoftmaxBackwardRow(const float* dy, const float* y, int64_t H, float* dx) {
  Backward(dy, y, H, dx);
}
LIGER_VECTOR_CLONES void SoftmaxBackwardRow(const Bf16* dy, const Bf16* y, int64_t H, Bf16* dx) {
  Backward(dy, y, H, dx);
}

}  // namespace liger::kernels
