#include "kernels/embedding/embedding_rows.h"

namespace liger::kernels {
namespace {

template <typename T>
LIGER_INLINE void Sum(const T* x, const int64_t* positions, int64_t n, int64_t H, float* sum,
                      T* out) {
  for (int64_t h = 0; h < H; ++h) sum[h] = 0;
  for (int64_t i = 0; i < n; ++i) {
    const T* row = x + positions[i] * H;
#pragma omp simd
    for (int64_t h = 0; h < H; ++h) sum[h] += ToFloat(row[h]);
  }
#pragma omp simd
  for (int64_t h = 0; h < H; ++h) out[h] = FromFloat<T>(sum[h]);
}

}  // namespace

LIGER_VECTOR_CLONES void SumRows(const float* x, const int64_t* positions, int64_t n, int64_t H,
                                 float* sum, float* out) {
  Sum(x, positions, n, H, sum, out);
}
LIGER_VECTOR_CLONES void SumRows(const Bf16* x, const int64_t* positions, int64_t n, int64_t H,
                                 float* sum, Bf16* out) {
  Sum(x, positions, n, H, sum, out);
}

}  // namespace liger::kernels
