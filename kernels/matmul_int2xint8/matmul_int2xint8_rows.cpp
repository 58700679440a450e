#include "kernels/matmul_int2xint8/matmul_int2xint8_rows.h"

#include "kernels/common/vector.h"

namespace liger::kernels {

LIGER_VECTOR_CLONES void MatmulInt2xInt8Row(const int8_t* x, const uint8_t* packed, int64_t R,
                                            int64_t stride, int64_t n, int32_t* y) {
  for (int64_t j = 0; j < n; ++j) y[j] = 0;
  for (int64_t r = 0; r < R; ++r) {
    const int32_t x0 = x[r], x1 = x[R + r], x2 = x[2 * R + r], x3 = x[3 * R + r];
    // The codes are the weights plus one.
    const int32_t excess = x0 + x1 + x2 + x3;
    const uint8_t* row = packed + r * stride;
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const int32_t codes = row[j];
      y[j] += x0 * (codes & 3) + x1 * (codes >> 2 & 3) + x2 * (codes >> 4 & 3) + x3 * (codes >> 6) -
              excess;
    }
  }
}

}  // namespace liger::kernels
