#ifndef LIGER_KERNELS_COMMON_CLUSTER_CUH_
#define LIGER_KERNELS_COMMON_CLUSTER_CUH_

#include "kernels/common/device.cuh"

// What kernels over clusters of blocks (compute capability 9.0) share.
namespace liger::kernels::cuda {

// Whether the code of this kernel that the GPU runs was compiled for clusters: not on an older
// GPU, and not where the driver compiled the fallback, which knows none.
template <typename Kernel>
bool CompiledForClusters(Kernel* kernel) {
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, kernel) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return attributes.ptxVersion >= 90;
}

// Launches `clusters` clusters of `blocks` blocks each.
template <typename... Parameters, typename... Arguments>
Error LaunchClusters(const Queue& queue, void (*kernel)(Parameters...), int64_t clusters,
                     unsigned blocks, unsigned threads, size_t shared, Arguments... arguments) {
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = blocks;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(clusters) * blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = StreamOf(queue);
  config.attrs = &cluster;
  config.numAttrs = 1;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
  return error == cudaSuccess ? LaunchError() : static_cast<Error>(error);
}

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_CLUSTER_CUH_
