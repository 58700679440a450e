#ifndef LIGER_KERNELS_COMMON_CPU_H_
#define LIGER_KERNELS_COMMON_CPU_H_

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>

#include "kernels/common/vector.h"

namespace liger::kernels {

// Whether our vectorised loops take tensors like this one; others go to ATen.
inline bool HasCpuLoops(c10::Device device, c10::ScalarType dtype) {
  return device.is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16);
}
inline bool HasCpuLoops(const at::Tensor& t) { return HasCpuLoops(t.device(), t.scalar_type()); }

template <typename T>
const T* Data(const at::Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <typename T>
T* MutableData(const at::Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// Calls f(T{}) with T = float or Bf16. REQUIRES: HasCpuLoops.
template <typename F>
void DispatchCpuDtype(c10::ScalarType dtype, F&& f) {
  if (dtype == at::kFloat) {
    f(float{});
  } else {
    f(Bf16{});
  }
}

// Rows a thread takes at least, so that starting it pays (as ATen: 32768 elements).
inline int64_t RowGrain(int64_t elements_per_row) {
  return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, elements_per_row));
}

// The dtype that composed ops compute in: float64 stays, everything else is float32.
inline c10::ScalarType ComputeDtype(const at::Tensor& t) {
  return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_CPU_H_
