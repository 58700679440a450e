#ifndef LIGER_KERNELS_COMMON_UNIT_STRIDE_H_
#define LIGER_KERNELS_COMMON_UNIT_STRIDE_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// The tensor, or a contiguous copy where neighbours along the last dimension are not neighbours in
// memory.
inline at::Tensor WithUnitStride(const at::Tensor& x) {
  return x.stride(-1) == 1 ? x : x.contiguous();
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_UNIT_STRIDE_H_
