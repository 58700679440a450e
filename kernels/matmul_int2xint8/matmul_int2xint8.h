#ifndef LIGER_KERNELS_MATMUL_INT2XINT8_MATMUL_INT2XINT8_H_
#define LIGER_KERNELS_MATMUL_INT2XINT8_MATMUL_INT2XINT8_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// Product of 8-bit activations with packed ternary weights, as BitNet b1.58 has them (Ma et al.
// 2024, arXiv:2402.17764). Dispatcher op `liger::matmul_int2xint8`; integers have no gradient.
//   y[m, n] = sum over k of x[m, k] * w[k, n]                              exact, in int32
//   x_MK       int8 [M, K]
//   packed_RN  uint8 [R, N] with K = 4 R: bits 2 i and 2 i + 1 of packed[r, n] hold w[i R + r, n] +
//   1
//              (liger-kernel's packing). The code 3, which no ternary weight has, counts as 2.
// Returns int32 [M, N], contiguous. K is at most 2^23 - 4, so that no sum overflows. No memory
// beyond the result; inputs that are not contiguous are copied. On a GPU by int8 tensor cores.
// Throws c10::Error that names the argument and its shape: wrong rank, dtype or device, K not 4 R.
at::Tensor MatmulInt2xInt8(const at::Tensor& x_MK, const at::Tensor& packed_RN);

// weight_KN, int8 of -1, 0 and 1 with K a multiple of 4 -> packed_RN, by PyTorch's ops. Dispatcher
// op `liger::pack_int2`. On a CPU a value outside [-1, 2] throws with its row and column.
at::Tensor PackInt2(const at::Tensor& weight_KN);
// The inverse: int8 [4 R, N]. Dispatcher op `liger::unpack_int2`.
at::Tensor UnpackInt2(const at::Tensor& packed_RN);

namespace baseline {
// The unpacked weights' product in float64, which holds these integers exactly.
at::Tensor MatmulInt2xInt8(const at::Tensor& x_MK, const at::Tensor& packed_RN);
}  // namespace baseline

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_MATMUL_INT2XINT8_MATMUL_INT2XINT8_H_
