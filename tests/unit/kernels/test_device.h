#ifndef LIGER_TESTS_UNIT_KERNELS_TEST_DEVICE_H_
#define LIGER_TESTS_UNIT_KERNELS_TEST_DEVICE_H_

#include <ATen/core/Tensor.h>

// Where the checks run that the CPU's and the GPU's test program share (tests/gpu/CMakeLists.txt).
#ifdef LIGER_TEST_DEVICE
#define LIGER_TEST_ON_GPU
#else
#define LIGER_TEST_DEVICE "cpu"
#endif

namespace liger::kernels {

inline const at::Device kDevice(LIGER_TEST_DEVICE);

}  // namespace liger::kernels

#endif  // LIGER_TESTS_UNIT_KERNELS_TEST_DEVICE_H_
