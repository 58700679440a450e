#ifndef LIGER_KERNELS_COMMON_CUDA_H_
#define LIGER_KERNELS_COMMON_CUDA_H_

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#include "kernels/common/launch.h"

// Between ops and their launchers. A build without a CUDA toolkit has no launchers: there
// kHasCuda is false and calls stand behind `if constexpr`.
namespace liger::kernels {

#ifdef LIGER_WITH_CUDA
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif

namespace cuda {
// HasCodeFor, asked once a device. A device without an index is the first.
bool Supports(c10::Device device);
}  // namespace cuda

// Whether our CUDA kernels take tensors like this one.
inline bool HasCudaKernels(c10::Device device, c10::ScalarType dtype) {
  if constexpr (kHasCuda) {
    return device.is_cuda() &&
           (dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf) &&
           cuda::Supports(device);
  }
  return false;
}
inline bool HasCudaKernels(const at::Tensor& t) {
  return HasCudaKernels(t.device(), t.scalar_type());
}

namespace cuda {

// REQUIRES: float32, float16 or bfloat16.
inline Dtype DtypeOf(const at::Tensor& t) {
  if (t.scalar_type() == at::kFloat) return Dtype::kFloat;
  return t.scalar_type() == at::kHalf ? Dtype::kHalf : Dtype::kBfloat16;
}

// Makes the tensor's device current and names the stream that PyTorch works on there.
class Scope {
 public:
  explicit Scope(const at::Tensor& t);
  const Queue& queue() const { return queue_; }

 private:
  c10::DeviceGuard guard_;
  Queue queue_;
};

// Throws c10::Error that names the op.
void CheckLaunch(const char* op, Error error);

}  // namespace cuda
}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_CUDA_H_
