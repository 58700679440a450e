#ifndef LIGER_KERNELS_COMMON_PAIR_SUM_CUH_
#define LIGER_KERNELS_COMMON_PAIR_SUM_CUH_

#include "kernels/common/device.cuh"

namespace liger::kernels::cuda {

// Two sums that go through a block together.
struct Pair {
  float a, b;
  __device__ __forceinline__ Pair& operator+=(const Pair& other) {
    a += other.a;
    b += other.b;
    return *this;
  }
};

// As BlockSum.
__device__ __forceinline__ Pair PairSum(Pair v, Pair* scratch) {
  v = {WarpSum(v.a), WarpSum(v.b)};
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warps = (static_cast<int>(blockDim.x) + 31) / 32;
  if (warps == 1) return v;
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  v = lane < warps ? scratch[lane] : Pair{0, 0};
  return {WarpSum(v.a), WarpSum(v.b)};
}

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_PAIR_SUM_CUH_
