#ifndef LIGER_TESTS_GPU_GPU_TEST_H_
#define LIGER_TESTS_GPU_GPU_TEST_H_

#include <ATen/ATen.h>

// What the GPU tests of kernels share.
namespace liger::kernels {

inline const at::Device kGpu(LIGER_TEST_DEVICE);

inline double RelativeError(const at::Tensor& value, const at::Tensor& expected) {
  const at::Tensor e = expected.to(at::kCPU, at::kDouble), v = value.to(at::kCPU, at::kDouble);
  return ((v - e).norm() / e.norm()).item<double>();
}

inline at::Tensor Randn(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::randn(shape, at::TensorOptions(kGpu).dtype(at::kFloat)).to(dtype);
}

}  // namespace liger::kernels

#endif  // LIGER_TESTS_GPU_GPU_TEST_H_
