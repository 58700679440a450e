#ifndef LIGER_KERNELS_COMMON_ROW_STATS_H_
#define LIGER_KERNELS_COMMON_ROW_STATS_H_

#include <cmath>
#include <cstdint>

#include "kernels/common/vector.h"

namespace liger::kernels {

// Sums of more than so many terms are taken in double: rounding grows with a
// float sum's length.
inline constexpr int64_t kSumChunk = 1024;

struct RowStats {
  float mean, rstd;
};

// Mean and 1 / sqrt(variance + eps) of n numbers, the variance that of the centred ones.
template <typename T>
LIGER_INLINE RowStats MeanAndRstd(const T* x, int64_t n, double eps) {
  double total = 0, squares = 0;
  for (int64_t first = 0; first < n; first += kSumChunk) {
    const int64_t last = first + kSumChunk < n ? first + kSumChunk : n;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = first; i < last; ++i) sum += ToFloat(x[i]);
    total += static_cast<double>(sum);
  }
  const float mean = static_cast<float>(total / static_cast<double>(n));
  for (int64_t first = 0; first < n; first += kSumChunk) {
    const int64_t last = first + kSumChunk < n ? first + kSumChunk : n;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = first; i < last; ++i) {
      const float centred = ToFloat(x[i]) - mean;
      sum += centred * centred;
    }
    squares += static_cast<double>(sum);
  }
  return {mean, static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(n) + eps))};
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_ROW_STATS_H_
