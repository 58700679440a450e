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

inline cudaLaunchAttribute ClusterOf(unsigned blocks) {
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = blocks;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  return cluster;
}

// How many clusters of the kernel run at once on this device; 0 where none fits, as on a slice of a
// GPU with few SMs, and where CUDA does not say. The kernel may then use all shared memory that
// there is: a limit for each call would be a race between threads.
template <auto kKernel>
int CountActiveClusters(unsigned blocks, unsigned threads, size_t shared) {
  struct Known {
    int device = -1;
    unsigned blocks = 0, threads = 0;
    size_t shared = 0;
    int clusters = 0;
  };
  thread_local Known known;
  int device = 0, most = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess || known.device != device || known.blocks != blocks ||
      known.threads != threads || known.shared != shared) {
    cudaFuncAttributes attributes;
    if (error == cudaSuccess) {
      error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    }
    if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, kKernel);
    if (error == cudaSuccess) {
      error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   most - static_cast<int>(attributes.sharedSizeBytes));
    }
    cudaLaunchAttribute cluster = ClusterOf(blocks);
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.attrs = &cluster;
    config.numAttrs = 1;
    int count = 0;
    if (error == cudaSuccess) error = cudaOccupancyMaxActiveClusters(&count, kKernel, &config);
    if (error != cudaSuccess) {
      cudaGetLastError();
      return 0;
    }
    known = {device, blocks, threads, shared, count};
  }
  return known.clusters;
}

// Launches `clusters` clusters of `blocks` blocks each.
template <typename... Parameters, typename... Arguments>
Error LaunchClusters(const Queue& queue, void (*kernel)(Parameters...), int64_t clusters,
                     unsigned blocks, unsigned threads, size_t shared, Arguments... arguments) {
  cudaLaunchAttribute cluster = ClusterOf(blocks);
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
