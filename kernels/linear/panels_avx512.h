#ifndef LIGER_KERNELS_LINEAR_PANELS_AVX512_H_
#define LIGER_KERNELS_LINEAR_PANELS_AVX512_H_

#include <cstdint>

#include "kernels/linear/operand.h"

// The pieces of panel_gemm.h that need AVX-512: packing, and the product of two panels. No torch
// headers, as this is compiled for a CPU that not everybody has.
namespace liger::kernels::panels {

using gemm::Block;
using gemm::Operand;
using gemm::Panels;

// A left panel is 14 rows, held as `depth` lines of 16 floats (two of them unused); a right one is
// 32 columns, lines of 32.
inline constexpr int64_t kLeftRows = 14, kLeftLine = 16;
inline constexpr int64_t kRightRows = 32, kRightLine = 32;

// Whether this CPU has what the functions below need. Thread-safe.
bool HasAvx512();

// The inner dimension of a slice: [begin, begin + count).
struct Depth {
  int64_t begin, count;
};

// Writes these panels of X, zero outside of it, to out, one after the other. PackRight takes b^T.
void PackLeft(const Operand& x, const Panels& panels, const Depth& depth, float* out);
void PackRight(const Operand& x, const Panels& panels, const Depth& depth, float* out);

// What is read soon: called into the L2 cache during a product, `step` bytes for each of its lines.
struct Ahead {
  const char* from;
  int64_t step;
};

// c (+)= left right over two packed panels; c is at most 14 x 32.
void MultiplyPanels(const float* left, const float* right, int64_t depth, const Block& c, bool add,
                    Ahead ahead);

}  // namespace liger::kernels::panels

#endif  // LIGER_KERNELS_LINEAR_PANELS_AVX512_H_
