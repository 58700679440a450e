#ifndef LIGER_KERNELS_EMBEDDING_EMBEDDING_ROWS_H_
#define LIGER_KERNELS_EMBEDDING_EMBEDDING_ROWS_H_

#include <cstdint>

#include "kernels/common/vector.h"

namespace liger::kernels {

// out = sum over n rows of x [., H], at these positions and in their order; `sum` is scratch [H].
void SumRows(const float* x, const int64_t* positions, int64_t n, int64_t H, float* sum,
             float* out);
void SumRows(const Bf16* x, const int64_t* positions, int64_t n, int64_t H, float* sum, Bf16* out);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_EMBEDDING_EMBEDDING_ROWS_H_
