#ifndef LIGER_KERNELS_COMMON_COLUMN_SUM_CUH_
#define LIGER_KERNELS_COMMON_COLUMN_SUM_CUH_

#include "kernels/common/device.cuh"

namespace liger::kernels::cuda {

inline constexpr int kColumnSumRows = 16;

// What a thread adds up of many rows, a number for each of its columns. Where the result is
// float32, 32 rows are added among themselves first: the rounding of a long sum grows with its
// terms.
template <typename T, int NV, int VEC>
struct RowSums {
  static constexpr bool kInParts = sizeof(T) == 4;
  static constexpr int kPart = 32;
  float sum[NV][VEC] = {};
  float parts[kInParts ? NV : 1][kInParts ? VEC : 1] = {};
  int rows = 0;

  __device__ __forceinline__ void EndRow() {
    if (kInParts && ++rows == kPart) Fold();
  }
  // Makes `sum` the sum of all rows.
  __device__ __forceinline__ void Finish() {
    if constexpr (!kInParts) return;
    Fold();
#pragma unroll
    for (int i = 0; i < NV; ++i) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) sum[i][j] = parts[i][j];
    }
  }

 private:
  __device__ __forceinline__ void Fold() {
    if constexpr (kInParts) {
#pragma unroll
      for (int i = 0; i < NV; ++i) {
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          parts[i][j] += sum[i][j];
          sum[i][j] = 0;
        }
      }
      rows = 0;
    }
  }
};

// out[h] = sum over b of partial[b, h], added in double: there are thousands of rows where H is
// small. partial float32 [B, H]. 32 columns a block.
template <typename T>
__global__ void ColumnSumKernel(const float* __restrict__ partial, int64_t B, int64_t H,
                                T* __restrict__ out) {
  __shared__ double sums[kColumnSumRows][33];
  const int64_t h = int64_t{blockIdx.x} * 32 + threadIdx.x;
  double sum = 0;
  if (h < H) {
    for (int64_t b = threadIdx.y; b < B; b += kColumnSumRows) sum += double{partial[b * H + h]};
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || h >= H) return;
#pragma unroll
  for (int i = 1; i < kColumnSumRows; ++i) sum += sums[i][threadIdx.x];
  out[h] = FromFloat<T>(static_cast<float>(sum));
}

template <typename T>
void ColumnSum(const Queue& queue, const float* partial, int64_t B, int64_t H, T* out) {
  const dim3 threads(32, kColumnSumRows);
  ColumnSumKernel<T>
      <<<static_cast<unsigned>((H + 31) / 32), threads, 0, StreamOf(queue)>>>(partial, B, H, out);
}

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_COLUMN_SUM_CUH_
