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
// The same product as torch.nn.functional.linear; on a CPU the library that computes it
// in float32 (MKL or oneDNN) is the faster one of this machine, see CpuGemm().
// Throws c10::Error that names the argument and its shape when ranks, sizes,
// dtypes or devices do not match.
at::Tensor Linear(const at::Tensor& x_xK, const at::Tensor& weight_NK,
                  const std::optional<at::Tensor>& bias_N = std::nullopt);

// The library behind float32 matrix products on the CPU.
enum class GemmLibrary { kMkl, kOneDnn };
std::string_view GemmLibraryName(GemmLibrary library);  // "mkl", "onednn"

// Chosen once a process, at its first use: the value of LIGER_CPU_GEMM ("mkl",
// "onednn") if set; else, under torch's deterministic mode, by CPU vendor
// alone (oneDNN on AMD, where it measured 2.3x MKL; MKL elsewhere, where the
// two are within 10 % and MKL accumulates into a buffer for free); else by a
// probe that times both on one product of a layer's size (about 10 ms).
GemmLibrary CpuGemm();

// The products that fused ops and Linear are made of. No autograd, no checks.
namespace gemm {

// x_TK w_NK^T -> [T, N].
at::Tensor XWt(const at::Tensor& x_TK, const at::Tensor& w_NK);
// As XWt, into y_TN, which must be contiguous.
void XWtOut(const at::Tensor& x_TK, const at::Tensor& w_NK, at::Tensor& y_TN);
// g_TN w_NK -> [T, K]: the input's gradient.
at::Tensor GW(const at::Tensor& g_TN, const at::Tensor& w_NK);
// acc_NK += g_TN^T x_TK: the weight's gradient. acc is contiguous and either of g's
// dtype or float32; products of bfloat16 are then accumulated in float32.
void AddGtX(const at::Tensor& g_TN, const at::Tensor& x_TK, at::Tensor& acc_NK);

}  // namespace gemm
}  // namespace liger::kernels

#endif  // LIGER_KERNELS_LINEAR_LINEAR_H_
