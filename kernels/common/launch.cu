#include "kernels/common/launch.h"

#include <cuda_runtime.h>

namespace liger::kernels::cuda {

const char* ErrorName(Error error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int CountSms() {
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  if (cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) {
    return 0;
  }
  return count;
}

bool HasCodeFor(int device) {
  int major = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return major >= 8;
}

}  // namespace liger::kernels::cuda
