#ifndef LIGER_KERNELS_LINEAR_OPERAND_H_
#define LIGER_KERNELS_LINEAR_OPERAND_H_

#include <cstdint>

// What the packed products (split_gemm.h, panel_gemm.h) and their kernels call things. No torch
// headers, as the kernels are compiled for CPUs that not everybody has.
namespace liger::kernels::gemm {

// Matrix X with `rows` rows and `depth` columns, the latter the inner dimension of the product:
// X[r, k] = data[r * stride + k] if k_contiguous, else data[k * stride + r].
struct Operand {
  const float* data;
  int64_t rows, depth, stride;
  bool k_contiguous;
};

enum class Side { kLeft, kRight };

struct Panels {
  int64_t begin, end;
};

// A part of the product.
struct Block {
  float* data;
  int64_t rows, cols, stride;
};

}  // namespace liger::kernels::gemm

#endif  // LIGER_KERNELS_LINEAR_OPERAND_H_
