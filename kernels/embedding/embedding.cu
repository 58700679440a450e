#include <algorithm>

#include "kernels/common/device.cuh"
#include "kernels/embedding/embedding_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowsPerBlock = 4;
constexpr int kTableRows = 16;          // of dweight, a block
constexpr int kMostTableThreads = 512;  // that write them
constexpr int kInFlight = 8;            // rows of dy that a thread loads before it adds them

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

// Adds rows order[t..end) of dy, of which `dy` is this thread's column, to sum.
template <typename T, int VEC, typename Index>
__device__ __forceinline__ void AddRows(const T* dy, int64_t H, const Index* order, int64_t t,
                                        int64_t end, float (&sum)[VEC]) {
  for (; t + kInFlight <= end; t += kInFlight) {
    Pack<T, VEC> packs[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) packs[k] = Load<VEC>(dy + int64_t{order[t + k]} * H);
    // Summed apart: the rounding of a long sum grows with its terms.
    float part[VEC] = {};
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) AddPack(packs[k], part);
#pragma unroll
    for (int j = 0; j < VEC; ++j) sum[j] += part[j];
  }
  for (; t < end; ++t) AddPack(Load<VEC>(dy + int64_t{order[t]} * H), sum);
}

// A block writes kTableRows rows of the table, one pack of columns a thread: most rows are zero,
// and stores wait for nothing.
template <typename T, int VEC, int THREADS>
__global__ void __launch_bounds__(THREADS)
    BackwardKernel(const T* __restrict__ dy, const int64_t* __restrict__ order,
                   const int64_t* __restrict__ starts, int64_t V, int64_t H,
                   T* __restrict__ dweight) {
  __shared__ int64_t bounds[kTableRows + 1];
  const int64_t first = int64_t{blockIdx.x} * kTableRows;
  const int rows = static_cast<int>(min(int64_t{kTableRows}, V - first));
  if (static_cast<int>(threadIdx.x) <= rows) bounds[threadIdx.x] = starts[first + threadIdx.x];
  __syncthreads();
  const int64_t step = int64_t{gridDim.y} * THREADS * VEC;
  for (int64_t h = (int64_t{blockIdx.y} * THREADS + threadIdx.x) * VEC; h < H; h += step) {
    for (int row = 0; row < rows; ++row) {
      float sum[VEC] = {};
      AddRows<T, VEC>(dy + h, H, order, bounds[row], bounds[row + 1], sum);
      Store<VEC>(dweight + (first + row) * H + h, Packed<T>(sum));
    }
  }
}

// What the kernels over unsorted ids share: how often each id occurs, less one, and where first
// (unsigned, so that all ones mean never).
struct Occurrences {
  int32_t* less_one;
  uint32_t* first;
};

// keys: the ids as int32, -1 where one counts for no row, up to a multiple of kMostScanIds.
__global__ void __launch_bounds__(kThreads)
    OccurrencesKernel(const int64_t* __restrict__ ids, int T, int64_t V, int64_t padding,
                      Occurrences of, int32_t* __restrict__ keys) {
  const int t = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int64_t id = t < T ? ids[t] : -1;
  const bool counts = id >= 0 && id < V && id != padding;
  keys[t] = counts ? static_cast<int32_t>(id) : -1;
  if (!counts) return;
  atomicAdd(of.less_one + id, 1);
  atomicMin(of.first + id, static_cast<uint32_t>(t));
}

constexpr int kScanLoads = 2;
// Ids that a block looks through at once.
template <int THREADS>
constexpr int kScanIds = THREADS * 4 * kScanLoads;
constexpr int kMostScanIds = kScanIds<kMostTableThreads>;
constexpr int kTogether = 4;  // rows of the table

// The positions of `key` among kScanIds<THREADS> keys, which start at position `begin`, in
// ascending order into `found`; returns how many. For all threads of a block; `found` is free again
// after a barrier.
template <int THREADS>
__device__ __forceinline__ int FindPositions(const int32_t* keys, int begin, int32_t key,
                                             int32_t* found) {
  __shared__ int of_warp[kScanLoads][THREADS / 32];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  int4 four[kScanLoads];
#pragma unroll
  for (int i = 0; i < kScanLoads; ++i) {
    four[i] = reinterpret_cast<const int4*>(keys + begin)[i * THREADS + thread];
  }
  unsigned hits[kScanLoads], any = 0;
#pragma unroll
  for (int i = 0; i < kScanLoads; ++i) {
    hits[i] = (four[i].x == key) | (four[i].y == key) << 1 | (four[i].z == key) << 2 |
              (four[i].w == key) << 3;
    any |= hits[i];
  }
  if (!__syncthreads_or(static_cast<int>(any))) return 0;
  int before[kScanLoads];
#pragma unroll
  for (int i = 0; i < kScanLoads; ++i) {
    int all = 0;
    before[i] = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const unsigned lanes = __ballot_sync(0xffffffffu, hits[i] >> j & 1u);
      before[i] += __popc(lanes & ((1u << lane) - 1));
      all += __popc(lanes);
    }
    if (lane == 0) of_warp[i][warp] = all;
  }
  __syncthreads();
  int total = 0;
#pragma unroll
  for (int i = 0; i < kScanLoads; ++i) {
#pragma unroll
    for (int w = 0; w < THREADS / 32; ++w) {
      if (w == warp) before[i] += total;
      total += of_warp[i][w];
    }
    const int position = begin + (i * THREADS + thread) * 4;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (hits[i] >> j & 1u) found[before[i]++] = position + j;
    }
  }
  __syncthreads();
  return total;
}

// As BackwardKernel, without an order: rows whose id occurs once are copies, and the few others'
// positions are looked for.
template <typename T, int VEC, int THREADS>
__global__ void __launch_bounds__(THREADS)
    ScanBackwardKernel(const T* __restrict__ dy, const int32_t* __restrict__ keys, Occurrences of,
                       int64_t V, int64_t H, T* __restrict__ dweight) {
  __shared__ int32_t counts[kTableRows], firsts[kTableRows], found[kScanIds<THREADS>];
  const int64_t first = int64_t{blockIdx.x} * kTableRows;
  const int rows = static_cast<int>(min(int64_t{kTableRows}, V - first));
  if (static_cast<int>(threadIdx.x) < kTableRows) {
    const bool inside = static_cast<int>(threadIdx.x) < rows;
    counts[threadIdx.x] = inside ? of.less_one[first + threadIdx.x] + 1 : 0;
    firsts[threadIdx.x] = inside ? static_cast<int32_t>(of.first[first + threadIdx.x]) : 0;
  }
  __syncthreads();
  const int64_t step = int64_t{gridDim.y} * THREADS * VEC;
  for (int64_t base = int64_t{blockIdx.y} * THREADS * VEC; base < H; base += step) {
    const int64_t h = base + int64_t{threadIdx.x} * VEC;
    const bool inside = h < H;
    T* const out = dweight + first * H + h;
    for (int row = 0; row < rows; row += kTogether) {
      Pack<T, VEC> packs[kTogether];
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        float zero[VEC] = {};
        packs[k] = Packed<T>(zero);
        if (inside && counts[row + k] == 1) {
          packs[k] = Load<VEC>(dy + int64_t{firsts[row + k]} * H + h);
        }
      }
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        if (inside && row + k < rows && counts[row + k] <= 1) {
          Store<VEC>(out + (row + k) * H, packs[k]);
        }
      }
      for (int k = row; k < row + kTogether; ++k) {
        int left = counts[k];
        if (left <= 1) continue;
        float sum[VEC] = {};
        constexpr int kIds = kScanIds<THREADS>;
        for (int begin = firsts[k] / kIds * kIds; left > 0; begin += kIds) {
          const int n = FindPositions<THREADS>(keys, begin, static_cast<int32_t>(first + k), found);
          if (n == 0) continue;
          if (inside) AddRows<T, VEC>(dy + h, H, found, 0, n, sum);
          left -= n;
          __syncthreads();
        }
        if (inside) Store<VEC>(out + k * H, Packed<T>(sum));
      }
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

unsigned Blocks(int64_t n, int64_t each) { return GridOf((n + each - 1) / each); }

// Calls f(THREADS, blocks) for blocks that write kTableRows rows, one pack of columns a thread:
// whole rows of many columns, since what is written in one piece is written faster.
template <typename F>
void WithTableBlocks(int64_t V, int64_t H, int vec, F&& f) {
  const auto run = [&](auto threads) {
    constexpr unsigned kMaxGridY = 65535;
    f(threads, dim3(Blocks(V, kTableRows), std::min(Blocks(H, threads() * vec), kMaxGridY)));
  };
  if (H > int64_t{kMostTableThreads} / 2 * vec) {
    run(std::integral_constant<int, kMostTableThreads>{});
  } else {
    run(std::integral_constant<int, kMostTableThreads / 2>{});
  }
}

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

int64_t EmbeddingScanKeys(int64_t T) {
  return (T + kMostScanIds - 1) / kMostScanIds * kMostScanIds;
}

Error EmbeddingScanBackward(const Queue& queue, Dtype dtype, int64_t T, int64_t V, int64_t H,
                            int64_t padding, const int64_t* ids, const void* dy, int32_t* keys,
                            int32_t* occurrences, void* dweight) {
  if (V == 0 || H == 0) return 0;
  const cudaError_t error =
      cudaMemsetAsync(occurrences, 0xff, static_cast<size_t>(2 * V) * 4, StreamOf(queue));
  if (error != cudaSuccess) return static_cast<Error>(error);
  const Occurrences of{occurrences, reinterpret_cast<uint32_t*>(occurrences + V)};
  if (T > 0) {
    OccurrencesKernel<<<Blocks(EmbeddingScanKeys(T), kThreads), kThreads, 0, StreamOf(queue)>>>(
        ids, static_cast<int>(T), V, padding, of, keys);
  }
  Dispatch(dtype, H, IsAligned(dy) && IsAligned(dweight), [&](auto t, auto vec) {
    using Element = typename decltype(t)::type;
    WithTableBlocks(V, H, vec(), [&](auto threads, dim3 blocks) {
      ScanBackwardKernel<Element, vec(), threads()><<<blocks, threads(), 0, StreamOf(queue)>>>(
          static_cast<const Element*>(dy), keys, of, V, H, static_cast<Element*>(dweight));
    });
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
    WithTableBlocks(V, H, vec(), [&](auto threads, dim3 blocks) {
      BackwardKernel<Element, vec(), threads()><<<blocks, threads(), 0, StreamOf(queue)>>>(
          static_cast<const Element*>(dy), order, starts, V, H, static_cast<Element*>(dweight));
    });
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
