#ifndef LIGER_KERNELS_COMMON_COLUMN_SUM_CUH_
#define LIGER_KERNELS_COMMON_COLUMN_SUM_CUH_

#include "kernels/common/device.cuh"

namespace liger::kernels::cuda {

inline constexpr int kColumnSumRows = 16;

// out[h] = sum over b of partial[b, h]; partial float32 [B, H]. 32 columns a block.
template <typename T>
__global__ void ColumnSumKernel(const float* __restrict__ partial, int64_t B, int64_t H,
                                T* __restrict__ out) {
  __shared__ float sums[kColumnSumRows][33];
  const int64_t h = int64_t{blockIdx.x} * 32 + threadIdx.x;
  float sum = 0;
  if (h < H) {
    for (int64_t b = threadIdx.y; b < B; b += kColumnSumRows) sum += partial[b * H + h];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || h >= H) return;
#pragma unroll
  for (int i = 1; i < kColumnSumRows; ++i) sum += sums[i][threadIdx.x];
  out[h] = FromFloat<T>(sum);
}

template <typename T>
void ColumnSum(const Queue& queue, const float* partial, int64_t B, int64_t H, T* out) {
  const dim3 threads(32, kColumnSumRows);
  ColumnSumKernel<T><<<static_cast<unsigned>((H + 31) / 32), threads, 0, StreamOf(queue)>>>(
      partial, B, H, out);
}

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_COLUMN_SUM_CUH_
