#ifndef LIGER_KERNELS_COMMON_ROW_PIPELINE_CUH_
#define LIGER_KERNELS_COMMON_ROW_PIPELINE_CUH_

#include <cuda_pipeline.h>

#include <algorithm>

#include "kernels/common/device.cuh"

// What the norms over rows share: how rows are spread over threads, fetched ahead and launched.
namespace liger::kernels::cuda {

// Blocks walk over rows. While a row is reduced, the next kStages - 1 are on their way into
// shared memory: each thread fetches what it will use itself, so that nobody waits for others.
inline constexpr int kStages = 3;
inline constexpr int kMaxThreads = 512;
inline constexpr int kMaxPacks = 4;

// Packs of a row that a thread takes, and threads. Rows that are not whole packs, not aligned
// or longer than that take the kernels for long rows.
struct RowPlan {
  int packs = 0, threads = 0;
  bool fits() const { return packs != 0; }
};

inline RowPlan PlanRow(const RowsShape& shape, bool aligned) {
  const int64_t wide = shape.dtype == Dtype::kFloat ? 4 : 8;
  const int64_t packs = shape.H / wide;
  if (!aligned || shape.H % wide != 0 || packs > kMaxPacks * kMaxThreads) return {};
  RowPlan plan{.packs = packs <= 256 ? 1 : packs <= 2 * kMaxThreads ? 2 : kMaxPacks};
  const int64_t threads = (packs + plan.packs - 1) / plan.packs;
  plan.threads = static_cast<int>((threads + 31) / 32 * 32);
  return plan;
}

// One operand's stages of one thread: pack i of stage s.
template <typename T, int NV>
class Stages {
 public:
  static constexpr int VEC = kWide<T>;
  using P = Pack<T, VEC>;

  __device__ Stages(void* shared, int H)
      : own_(static_cast<uint4*>(shared) + threadIdx.x), row_(H / VEC), H_(H) {}

  __device__ __forceinline__ void Fetch(const T* row, int stage) {
#pragma unroll
    for (int i = 0; i < NV; ++i) {
      const int h = Column(i);
      if (h >= H_) break;
      __pipeline_memcpy_async(own_ + stage * row_ + i * blockDim.x, row + h, 16);
    }
  }
  __device__ __forceinline__ P At(int i, int stage) const {
    return FromRaw<P>(own_[stage * row_ + i * blockDim.x]);
  }
  __device__ __forceinline__ static int Column(int i) {
    return (i * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * VEC;
  }

 private:
  uint4* own_;
  int row_, H_;
};

// Calls f(TypeTag<T>, TypeTag<W>).
template <typename F>
void DispatchTypes(const RowsShape& shape, F&& f) {
  DispatchDtype(shape.dtype, [&](auto t) {
    if (shape.weight_dtype == shape.dtype) {
      f(t, t);
    } else {
      f(t, TypeTag<float>{});
    }
  });
}

// Calls f with the number of packs as a constant.
template <typename F>
void DispatchPacks(const RowPlan& plan, F&& f) {
  if (plan.packs == 1) return f(std::integral_constant<int, 1>{});
  if (plan.packs == 2) return f(std::integral_constant<int, 2>{});
  f(std::integral_constant<int, kMaxPacks>{});
}

// Of shared memory, for `operands` rows in each stage.
inline size_t StageBytes(const RowsShape& shape, int operands) {
  const size_t element = shape.dtype == Dtype::kFloat ? 4 : 2;
  return static_cast<size_t>(kStages * operands) * static_cast<size_t>(shape.H) * element;
}

// How many blocks of the kernel a multiprocessor takes; 0: it has less shared memory. The kernel
// may then use all that there is: a limit for each call would be a race between threads.
template <auto kKernel>
int BlocksPerSm(int threads, size_t shared) {
  struct Known {
    int device = -1, threads = 0;
    size_t shared = 0;
    int blocks = 0;
  };
  thread_local Known known;
  int device = 0, most = 0, blocks = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  if (known.device == device && known.threads == threads && known.shared == shared) {
    return known.blocks;
  }
  cudaFuncAttributes attributes;
  if (cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
          cudaSuccess ||
      cudaFuncGetAttributes(&attributes, kKernel) != cudaSuccess ||
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           most - static_cast<int>(attributes.sharedSizeBytes)) != cudaSuccess ||
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kKernel, threads, shared) !=
          cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  known = {device, threads, shared, blocks};
  return blocks;
}

// Blocks an SM that work on partial sums of columns: as many as fit, and a partial row each.
inline int64_t PersistentBlocksPerSm(const RowPlan& plan, size_t shared) {
  constexpr size_t kSharedPerSm = 227 * 1024;
  if (!plan.fits()) return 2;
  const auto by_shared = static_cast<int64_t>(kSharedPerSm / (shared + 1024));
  return std::max<int64_t>(1, std::min<int64_t>(1024 / plan.threads, by_shared));
}

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_ROW_PIPELINE_CUH_
