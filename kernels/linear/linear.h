#ifndef LIGER_KERNELS_LINEAR_LINEAR_H_
#define LIGER_KERNELS_LINEAR_LINEAR_H_

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace liger::kernels {

// y = x W^T + b, differentiable in x, W and b. Dispatcher op `liger::linear`.
//   x_xK     [..., K]
//   weight_NK [N, K], same dtype and device as x
//   bias_N   [N] or nullopt
// Returns [..., N] in x's dtype.
// The same product as torch.nn.functional.linear; on a CPU what computes it in float32 (split
// bfloat16 products, MKL or oneDNN) is the fastest one of this machine, see CpuGemm().
// Accumulating form without autograd, dispatcher op `liger::linear_accumulate_weight_grad_`:
// gemm::AddGtX.
// Throws c10::Error that names the argument and its shape when ranks, sizes,
// dtypes or devices do not match.
at::Tensor Linear(const at::Tensor& x_xK, const at::Tensor& weight_NK,
                  const std::optional<at::Tensor>& bias_N = std::nullopt);

// Linear as far as gradients go: its node in their graph, without the product, for a layer that is
// computed again for its gradients alone (activation checkpointing), where nobody reads the result:
// NaN in the right shape, without memory of its own.
at::Tensor LinearForGradients(const at::Tensor& x_xK, const at::Tensor& weight_NK,
                              const std::optional<at::Tensor>& bias_N = std::nullopt);

// The unfused twin: torch.nn.functional.linear, with whichever library torch was built.
namespace baseline {
at::Tensor Linear(const at::Tensor& x_xK, const at::Tensor& weight_NK,
                  const std::optional<at::Tensor>& bias_N = std::nullopt);
}  // namespace baseline

// What computes float32 matrix products on the CPU, and the three products of a layer.
// kAmxSplit is split_gemm.h's for the large ones, kAvx512 panel_gemm.h's, and MKL for the others.
enum class GemmLibrary { kMkl, kOneDnn, kAmxSplit, kAvx512 };
enum class GemmKind { kForward, kInputGrad, kWeightGrad };
std::string_view GemmLibraryName(GemmLibrary library);  // "mkl", "onednn", "amx_split", "avx512"

// Chosen once a process, at its first use:
//   the value of LIGER_CPU_GEMM (one of the names; another one, or one that this machine or
//   libtorch lacks, throws), if set;
//   else kAmxSplit on a CPU with AMX;
//   else kAvx512 on AMD's CPUs with AVX-512, where it is faster than both others in all shapes
//   measured (docs/kernels.md);
//   else, while torch's deterministic mode is on, by the CPU's vendor alone: oneDNN on AMD,
//   where it measured 2.3x MKL, and MKL elsewhere;
//   else by timing both on one product of each kind of a small layer's size (about 20 ms);
//   MKL unless oneDNN is 15 % faster, because MKL can add into a buffer.
GemmLibrary CpuGemm(GemmKind kind);

// The products that Linear and the fused heads are made of, on matrices. No autograd, no
// checks of their own. CPU float32 goes to CpuGemm's library, the rest to ATen's.
namespace gemm {

// Whether the product of a_MK and b_KN goes to split_gemm.h.
bool TakesSplit(const at::Tensor& a_MK, const at::Tensor& b_KN, GemmKind kind);

// x_TK w_NK^T, as a new tensor.
at::Tensor XWt(const at::Tensor& x_TK, const at::Tensor& w_NK);
// The same into y_TN.
void XWtOut(const at::Tensor& x_TK, const at::Tensor& w_NK, at::Tensor& y_TN);
// g_TN w_NK: the input's gradient.
at::Tensor GW(const at::Tensor& g_TN, const at::Tensor& w_NK);
// alpha g_TN w_NK into dx_TK, which may be float32 where they are not, and then g, too, on a CPU.
void GWOut(const at::Tensor& g_TN, const at::Tensor& w_NK, at::Tensor& dx_TK, double alpha = 1);
// g_TN^T x_TK: the weight's gradient.
at::Tensor GtX(const at::Tensor& g_TN, const at::Tensor& x_TK);
// acc_NK += alpha g_TN^T x_TK; with `overwrite` acc_NK = that, whatever acc holds (NaN included).
// acc has g's dtype or float32; bfloat16 and float16 products are then summed in float32, without
// rounding in between. On a CPU g and x may differ in dtype, and alpha is 1.
void AddGtX(const at::Tensor& g_TN, const at::Tensor& x_TK, at::Tensor& acc_NK, double alpha = 1,
            bool overwrite = false);

}  // namespace gemm
}  // namespace liger::kernels

#endif  // LIGER_KERNELS_LINEAR_LINEAR_H_
