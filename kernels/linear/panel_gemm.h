#ifndef LIGER_KERNELS_LINEAR_PANEL_GEMM_H_
#define LIGER_KERNELS_LINEAR_PANEL_GEMM_H_

#include <ATen/core/Tensor.h>

// float32 matrix products by AVX-512's FMAs, for the shapes of a training step: MKL takes its AVX2
// kernels on a CPU that is not Intel's, and oneDNN has no product that adds to its result.
//
// The usual three levels (Goto, van de Geijn, "Anatomy of High-Performance Matrix Multiplication",
// 2008): 14 rows by 32 columns of c are 28 registers; a panel of 14 rows of a stays in the L1
// cache while it meets a group of b's panels, which stays in the L2 cache. The operand with
// more rows is divided among the threads, which pack it for themselves; the other one is packed
// once by all.
namespace liger::kernels::gemm {

// Whether this machine can: AVX-512 F, VL, BW and DQ.
bool HasPanelGemm();

// Whether a product of these sizes is worth it: below, packing costs more than it saves.
bool WorthPacking(int64_t M, int64_t N, int64_t K);

// c_MN = a_MK b_KN, or c_MN += it. float32 on the CPU; any strides, c's rows contiguous and no part
// of a or b. Bitwise the same for any number of threads and each time; NaN and infinities as IEEE
// has them.
// REQUIRES: HasPanelGemm().
void PanelProduct(const at::Tensor& a_MK, const at::Tensor& b_KN, const at::Tensor& c_MN,
                  bool accumulate);

}  // namespace liger::kernels::gemm

#endif  // LIGER_KERNELS_LINEAR_PANEL_GEMM_H_
