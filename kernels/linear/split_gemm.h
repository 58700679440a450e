#ifndef LIGER_KERNELS_LINEAR_SPLIT_GEMM_H_
#define LIGER_KERNELS_LINEAR_SPLIT_GEMM_H_

#include <ATen/core/Tensor.h>

// float32 matrix products out of bfloat16 ones, for CPUs whose tiles (AMX) multiply bfloat16
// at 16 times and more the rate of float32 FMAs.
//
// Each number is x = h + m + l, three bfloat16 of 8 bits each: h is x rounded, m what is left
// rounded, l the rest. float32 has 24 bits, so that the split is exact. Of the nine products of
// x = h + m + l and y = h' + m' + l' six are summed, in float32:
//     l h' + m h' + m m' + h m' + h l' + h h'.
// With 2^e <= |x| < 2^(e+1): |m| <= 2^(e-8), and |l| <= 2^(e-17) (where |m| is 2^(e-8) itself,
// l is 0). So the three left out are together below 2^-24 (1 + 2^-9) |x y|: a float32 rounding
// of the product at worst, 2^-27.4 of it (root mean square) typically, of varying sign.
//
// A tile product adds 32 terms to its sum with one rounding at the sum's full size. So six
// roundings go into 32 numbers of the inner dimension, where a chain of FMAs has 32, and the error
// against float64 is below an ordinary float32 product's (split_gemm_test measures both).
//
// Sources: Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For
// Higher-Precision Computations" (2019, arXiv:1904.06376): three bfloat16 hold a float32, and six
// products suffice; Ootomo, Yokota, "Recovering single precision accuracy from Tensor Cores while
// surpassing the FP32 theoretical peak performance" (2022): scaling against underflow of the small
// parts, and care for the accumulator's roundings.
namespace liger::kernels::gemm {

// Whether this machine can: see split::HasTiles.
bool HasSplit();

// Whether a product of these sizes is worth it: below, packing costs more than it saves.
bool WorthSplitting(int64_t M, int64_t N, int64_t K);

// c_MN = a_MK b_KN, or c_MN += it. float32 on the CPU; any strides, c's rows contiguous and no part
// of a or b. Bitwise the same for any number of threads and each time.
// Slices of K and panels of c whose factors hold NaN, infinity, or numbers so large that a
// scaled sum might overflow (K max|a| max|b| > 2^78, or one above 2^102) are computed by at::addmm.
// Returns whether none was.
// REQUIRES: HasSplit().
bool SplitProduct(const at::Tensor& a_MK, const at::Tensor& b_KN, const at::Tensor& c_MN,
                  bool accumulate);

}  // namespace liger::kernels::gemm

#endif  // LIGER_KERNELS_LINEAR_SPLIT_GEMM_H_
