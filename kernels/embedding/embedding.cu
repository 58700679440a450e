#include <algorithm>

#include "kernels/common/device.cuh"
#include "kernels/embedding/embedding_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowsPerBlock = 4;
constexpr int kTableRows = 32;  // of dweight, a block
constexpr int kInFlight = 8;    // rows of dy that a thread loads before it adds them

// A warp row of the block copies one row. NaN is every bit of the exponent and the mantissa.
template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(const int64_t* __restrict__ ids, const T* __restrict__ weight, int64_t rows,
                  int64_t V, int64_t H, T* __restrict__ y) {
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.y;
  if (row >= rows) return;
  const int64_t id = ids[row];
  const bool valid = id >= 0 && id < V;
  Pack<T, VEC> nan;
#pragma unroll
  for (int j = 0; j < VEC; ++j) nan.v[j] = FromFloat<T>(__int_as_float(0x7fffffff));
#pragma unroll 4
  for (int64_t h = int64_t{threadIdx.x} * VEC; h < H; h += int64_t{blockDim.x} * VEC) {
    Store<VEC>(y + row * H + h, valid ? Load<VEC>(weight + id * H + h) : nan);
  }
}

__global__ void __launch_bounds__(kThreads)
    KeysKernel(const int64_t* __restrict__ ids, int64_t T, int64_t V, int64_t padding,
               int32_t* __restrict__ keys) {
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t >= T) return;
  const int64_t id = ids[t];
  keys[t] = static_cast<int32_t>(id >= 0 && id < V && id != padding ? id : V);
}

// starts[v] = how many keys are below v.
__global__ void __launch_bounds__(kThreads)
    StartsKernel(const int32_t* __restrict__ sorted, int64_t T, int64_t V,
                 int64_t* __restrict__ starts) {
  const int64_t v = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (v > V) return;
  int64_t low = 0, high = T;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (sorted[middle] < v) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  starts[v] = low;
}

template <typename T, int VEC>
__device__ __forceinline__ void AddPack(const Pack<T, VEC>& pack, float (&sum)[VEC]) {
  float values[VEC];
  Unpack(pack, values);
#pragma unroll
  for (int j = 0; j < VEC; ++j) sum[j] += values[j];
}

// A block writes kTableRows rows of the table, one pack of columns a thread: most rows are zero,
// and stores wait for nothing.
template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    BackwardKernel(const T* __restrict__ dy, const int64_t* __restrict__ order,
                   const int64_t* __restrict__ starts, int64_t V, int64_t H,
                   T* __restrict__ dweight) {
  __shared__ int64_t bounds[kTableRows + 1];
  const int64_t first = int64_t{blockIdx.x} * kTableRows;
  const int rows = static_cast<int>(min(int64_t{kTableRows}, V - first));
  if (static_cast<int>(threadIdx.x) <= rows) bounds[threadIdx.x] = starts[first + threadIdx.x];
  __syncthreads();
  const int64_t step = int64_t{gridDim.y} * kThreads * VEC;
  for (int64_t h = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * VEC; h < H; h += step) {
    for (int row = 0; row < rows; ++row) {
      float sum[VEC] = {};
      const int64_t end = bounds[row + 1];
      int64_t t = bounds[row];
      for (; t + kInFlight <= end; t += kInFlight) {
        Pack<T, VEC> packs[kInFlight];
#pragma unroll
        for (int k = 0; k < kInFlight; ++k) packs[k] = LoadOnce<VEC>(dy + order[t + k] * H + h);
        // Summed apart: the rounding of a long sum grows with its terms.
        float part[VEC] = {};
#pragma unroll
        for (int k = 0; k < kInFlight; ++k) AddPack(packs[k], part);
#pragma unroll
        for (int j = 0; j < VEC; ++j) sum[j] += part[j];
      }
      for (; t < end; ++t) AddPack(LoadOnce<VEC>(dy + order[t] * H + h), sum);
      Store<VEC>(dweight + (first + row) * H + h, Packed<T>(sum));
    }
  }
}

// Calls f(TypeTag<T>, VEC) with the widest loads that H and the pointers allow.
template <typename F>
void Dispatch(Dtype dtype, int64_t H, bool aligned, F&& f) {
  DispatchDtype(dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    if (aligned && H % kWide<T> == 0) {
      f(t, std::integral_constant<int, kWide<T>>{});
    } else {
      f(t, std::integral_constant<int, 1>{});
    }
  });
}

unsigned Blocks(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

}  // namespace

Error EmbeddingForward(const Queue& queue, Dtype dtype, int64_t T, int64_t V, int64_t H,
                       const int64_t* ids, const void* weight, void* y) {
  if (T == 0 || H == 0) return 0;
  Dispatch(dtype, H, IsAligned(weight) && IsAligned(y), [&](auto t, auto vec) {
    using Element = typename decltype(t)::type;
    const dim3 threads(kThreads / kRowsPerBlock, kRowsPerBlock);
    ForwardKernel<Element, vec()><<<Blocks(T, kRowsPerBlock), threads, 0, StreamOf(queue)>>>(
        ids, static_cast<const Element*>(weight), T, V, H, static_cast<Element*>(y));
  });
  return LaunchError();
}

Error EmbeddingKeys(const Queue& queue, int64_t T, int64_t V, int64_t padding, const int64_t* ids,
                    int32_t* keys) {
  if (T == 0) return 0;
  KeysKernel<<<Blocks(T, kThreads), kThreads, 0, StreamOf(queue)>>>(ids, T, V, padding, keys);
  return LaunchError();
}

Error EmbeddingBackward(const Queue& queue, Dtype dtype, int64_t T, int64_t V, int64_t H,
                        const void* dy, const int32_t* sorted, const int64_t* order,
                        int64_t* starts, void* dweight) {
  if (V == 0 || H == 0) return 0;
  StartsKernel<<<Blocks(V + 1, kThreads), kThreads, 0, StreamOf(queue)>>>(sorted, T, V, starts);
  Dispatch(dtype, H, IsAligned(dy) && IsAligned(dweight), [&](auto t, auto vec) {
    using Element = typename decltype(t)::type;
    constexpr int64_t kMaxGridY = 65535;
    const int64_t columns = Blocks(H, int64_t{kThreads} * vec());
    const dim3 blocks(Blocks(V, kTableRows), static_cast<unsigned>(std::min(columns, kMaxGridY)));
    BackwardKernel<Element, vec()><<<blocks, kThreads, 0, StreamOf(queue)>>>(
        static_cast<const Element*>(dy), order, starts, V, H, static_cast<Element*>(dweight));
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
