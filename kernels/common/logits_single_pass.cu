#include <cooperative_groups.h>
#include <cuda_pipeline.h>

#include <algorithm>

#include "kernels/common/cluster.cuh"
#include "kernels/common/logits.cuh"
#include "kernels/common/logits_launch.h"

// Cross entropy and its gradient in one pass: each row is read once and written once. Clusters of
// blocks walk over the rows, and each thread fetches its packs of the next rows into shared memory
// while the blocks of the cluster agree on the sums of this one: memory never waits for them.
namespace liger::kernels::cuda {
namespace {

constexpr int kWarps = kReduceThreads / 32;
constexpr int kRows = 3;  // in shared memory: this one and the two on their way
// Bytes of a row that one block of a cluster holds, 64 or 128 a thread.
constexpr int64_t kHeldBytes = int64_t{kReduceThreads} * 64;
constexpr int kMaxCluster = 8;

// A target as a column that fits an int, or one of these.
constexpr int kIgnored = -2, kOutOfRange = -1;

__device__ __forceinline__ int ColumnOf(int64_t y, const LogitsShape& shape) {
  if (y == shape.ignore_index) return kIgnored;
  return y >= 0 && y < shape.V ? static_cast<int>(y) : kOutOfRange;
}

// The largest of a thread's packs, 16-bit values two at a time. Drops NaN.
template <typename T>
struct Largest {
  float top = -INFINITY;
  template <int VEC>
  __device__ __forceinline__ void Take(const Pack<T, VEC>& pack) {
#pragma unroll
    for (int j = 0; j < VEC; ++j) top = fmaxf(top, ToFloat(pack.v[j]));
  }
  __device__ __forceinline__ float Get() const { return top; }
};
template <typename Two>
struct LargestPair {
  Two top;
  template <typename P>
  __device__ __forceinline__ void Take(const P& pack) {
    Two pairs[sizeof(P) / sizeof(Two)];
    memcpy(pairs, &pack, sizeof(pack));
#pragma unroll
    for (const Two& pair : pairs) top = __hmax2(top, pair);
  }
  __device__ __forceinline__ float Get() const { return fmaxf(ToFloat(top.x), ToFloat(top.y)); }
};
template <>
struct Largest<__nv_bfloat16> : LargestPair<__nv_bfloat162> {
  __device__ Largest() : LargestPair{__float2bfloat162_rn(-INFINITY)} {}
};
template <>
struct Largest<__half> : LargestPair<__half2> {
  __device__ Largest() : LargestPair{__float2half2_rn(-INFINITY)} {}
};

#if __CUDA_ARCH__ >= 900
// The sums of all warps of a cluster, each relative to its own maximum, by one warp: in lane 0.
template <bool kStats>
__device__ __forceinline__ Totals ClusterTotals(const Totals* warps) {
  const auto cluster = cooperative_groups::this_cluster();
  constexpr int kEach = kWarps * kMaxCluster / 32;
  const int lane = static_cast<int>(threadIdx.x);
  const int all = static_cast<int>(cluster.num_blocks()) * kWarps;
  const auto of = [&](int w) { return cluster.map_shared_rank(warps + w % kWarps, w / kWarps); };
  double top = -INFINITY;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (lane + 32 * i < all) top = fmax(top, of(lane + 32 * i)->max);
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    top = fmax(top, __shfl_xor_sync(0xffffffffu, top, offset));
  }
  Totals t{top, 0, 0, 0, 0};
  // Unrolled, the statistics would not fit into the registers.
#pragma unroll(kStats ? 1 : kEach)
  for (int i = 0; i < kEach; ++i) {
    if (lane + 32 * i >= all) break;
    Totals one = *of(lane + 32 * i);
    RebaseTo<kStats>(top, one);
    t.e += one.e;
    if constexpr (kStats) {
      t.weighted += one.weighted;
      t.squares += one.squares;
      t.z += one.z;
    }
  }
  t.e = WarpSum(t.e);
  if constexpr (kStats) {
    t.weighted = WarpSum(t.weighted);
    t.squares = WarpSum(t.squares);
    t.z = WarpSum(t.z);
  }
  return t;
}
#endif

// The sums of a warp over what its threads hold, relative to their common maximum; in all lanes.
template <bool kStats, typename T, int PACKS, int VEC>
__device__ __forceinline__ Totals WarpTotals(const Pack<T, VEC> (&held)[PACKS], int mine) {
  Largest<T> largest;
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    if (i < mine) largest.Take(held[i]);
  }
  Sums s;
  s.max = largest.Get();
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    s.max = fmaxf(s.max, __shfl_xor_sync(0xffffffffu, s.max, offset));
  }
  const ExpMinus<T> exp_minus(double{s.max == -INFINITY ? 0.0f : s.max});
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    if (i >= mine) break;
    float z[VEC], sum = 0;
    Unpack(held[i], z);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const float e = exp_minus(z[j]);
      s.e += e;
      if constexpr (kStats) {
        s.weighted += e == 0 ? 0.0f : e * (z[j] - s.max);
        s.squares += e * e;
        sum += z[j];
      }
    }
    s.z += sum;
  }
  Totals t{s.max, WarpSum(double{s.e}), 0, 0, 0};
  if constexpr (kStats) {
    t.weighted = WarpSum(double{s.weighted});
    t.squares = WarpSum(double{s.squares});
    t.z = WarpSum(s.z);
  }
  return t;
}

// `span` packs of a row belong to each block of its cluster. `out` may be the logits.
template <typename T, int PACKS, bool kStats>
__global__ void __launch_bounds__(kReduceThreads, PACKS == 4 ? 2 : 1)
    SinglePassKernel(const T* logits, T* out, LogitsShape shape, int64_t out_stride, int span,
                     const int64_t* __restrict__ target, const float* __restrict__ factor,
                     LogitsResults results) {
#if __CUDA_ARCH__ >= 900
  constexpr int VEC = kWide<T>;
  using P = Pack<T, VEC>;
  extern __shared__ uint4 staged[];
  // Of this row and the one before, which another block may still read.
  __shared__ Totals warps[2][kWarps];
  __shared__ Totals total;
  __shared__ double row_lse;
  const auto cluster = cooperative_groups::this_cluster();
  const int blocks = static_cast<int>(cluster.num_blocks());
  const int rank = static_cast<int>(cluster.block_rank());
  const int packs = min(span, static_cast<int>(shape.V / VEC) - rank * span);
  const int thread = static_cast<int>(threadIdx.x);
  // Packs of this thread: one of every kReduceThreads.
  const int mine = max(0, (packs - thread + kReduceThreads - 1) / kReduceThreads);
  const int64_t first = (int64_t{rank} * span + thread) * VEC;  // this thread's column
  constexpr int kStep = kReduceThreads * VEC;
  uint4* const own = staged + thread;
  const int64_t step = gridDim.x / blocks;
  int64_t c = blockIdx.x / blocks;
  const auto column_of = [&](int64_t row) {
    return row < shape.C ? ColumnOf(target[row], shape) : kIgnored;
  };
  const auto fetch = [&](int64_t row, int y, int stage) {
    if (y != kIgnored) {
      const T* from = logits + row * shape.stride + first;
#pragma unroll
      for (int i = 0; i < PACKS; ++i) {
        if (i >= mine) break;
        __pipeline_memcpy_async(own + (stage * PACKS + i) * kReduceThreads, from + i * kStep, 16);
      }
    }
    __pipeline_commit();
  };
  // Targets of this row and the next: known before the row is fetched.
  int y = column_of(c), y1 = column_of(c + step), y2 = column_of(c + 2 * step);
  fetch(c, y, 0);
  fetch(c + step, y1, 1);
  int stage = 0, parity = 0;
  for (; c < shape.C; c += step) {
    const int y3 = column_of(c + 3 * step);
    fetch(c + 2 * step, y2, stage == 0 ? kRows - 1 : stage - 1);
    __pipeline_wait_prior(kRows - 1);
    T* to = out + c * out_stride + first;
    if (y == kIgnored) {
      float zero[VEC] = {};
#pragma unroll
      for (int i = 0; i < PACKS; ++i) {
        if (i < mine) Store<VEC>(to + i * kStep, Packed<T>(zero));
      }
      if (rank == 0 && thread == 0) WriteIgnored<kStats>(c, results);
    } else {
      const float f = factor[c];
      P held[PACKS];
#pragma unroll
      for (int i = 0; i < PACKS; ++i) {
        if (i < mine) held[i] = FromRaw<P>(own[(stage * PACKS + i) * kReduceThreads]);
      }
      // Whose element the target is corrects it at the end.
      const int at = y - rank * span * VEC;
      const bool owner =
          y >= 0 && at >= 0 && at < packs * VEC && at / VEC % kReduceThreads == thread;
      float own_target = 0;
      if (owner) {
        const uint4* pack = staged + stage * PACKS * kReduceThreads + at / VEC;
        own_target = ToFloat(reinterpret_cast<const T*>(pack)[at % VEC]);
      }
      const Totals sums = WarpTotals<kStats>(held, mine);
      if (thread % 32 == 0) warps[parity][thread / 32] = sums;
      cluster.sync();
      if (thread < 32) {
        const Totals t = ClusterTotals<kStats>(warps[parity]);
        if (thread == 0) {
          total = t;
          row_lse = t.max + log(t.e);
        }
      }
      __syncthreads();
      const ExpMinus<T> softmax(row_lse);
#pragma unroll
      for (int i = 0; i < PACKS; ++i) {
        if (i >= mine) break;
        float z[VEC], dz[VEC];
        Unpack(held[i], z);
#pragma unroll
        for (int j = 0; j < VEC; ++j) dz[j] = f * softmax(z[j]);
        Store<VEC>(to + i * kStep, Packed<T>(dz));
      }
      if (owner) {
        out[c * out_stride + y] = FromFloat<T>(f * (softmax(own_target) - 1.0f));
        WriteResults<kStats>(total, own_target, c, shape.V, results);
      } else if (y == kOutOfRange && rank == 0 && thread == 0) {
        WriteResults<kStats>(total, NAN, c, shape.V, results);
      }
      parity ^= 1;
    }
    y = y1;
    y1 = y2;
    y2 = y3;
    stage = stage + 1 == kRows ? 0 : stage + 1;
  }
  // Nobody leaves, or its shared memory with it, before all have read.
  cluster.sync();
#else
  __trap();
#endif
}

int64_t ElementBytes(Dtype dtype) { return dtype == Dtype::kFloat ? 4 : 2; }

bool HasClusters() { return CompiledForClusters(SinglePassKernel<float, 4, false>); }

}  // namespace

bool HasSinglePass(const LogitsShape& shape, const void* logits, int64_t out_stride,
                   const void* out) {
  const int64_t wide = 16 / ElementBytes(shape.dtype);
  return IsAligned(logits) && IsAligned(out) && shape.V % wide == 0 && shape.stride % wide == 0 &&
         out_stride % wide == 0 &&
         shape.V * ElementBytes(shape.dtype) <= 2 * kHeldBytes * kMaxCluster && HasClusters();
}

Error CrossEntropyAndGrad(const Queue& queue, const LogitsShape& shape, const void* logits,
                          const int64_t* target, const float* factor,
                          const LogitsResults& results, int64_t out_stride, void* out) {
  if (shape.C == 0 || shape.V == 0) return 0;
  const int64_t row_bytes = shape.V * ElementBytes(shape.dtype);
  const bool large = row_bytes > kHeldBytes * kMaxCluster;
  const int64_t held = large ? 2 * kHeldBytes : kHeldBytes;
  const auto blocks = static_cast<unsigned>((row_bytes + held - 1) / held);
  const auto shared = static_cast<size_t>(kRows * held);
  Error error = 0;
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto span = static_cast<int>((shape.V / kWide<T> + blocks - 1) / blocks);
    const auto run = [&](auto packs, auto stats) {
      constexpr auto kKernel = &SinglePassKernel<T, packs(), stats()>;
      int most = 0;
      error = CountActiveClusters<kKernel>(blocks, kReduceThreads, shared, &most);
      if (error != 0) return;
      error = LaunchClusters(queue, kKernel, std::min<int64_t>(shape.C, most), blocks,
                             kReduceThreads, shared, static_cast<const T*>(logits),
                             static_cast<T*>(out), shape, out_stride, span, target, factor,
                             results);
    };
    const auto with_stats = [&](auto packs) {
      if (results.entropy != nullptr) {
        run(packs, std::true_type{});
      } else {
        run(packs, std::false_type{});
      }
    };
    if (large) {
      with_stats(std::integral_constant<int, 8>{});
    } else {
      with_stats(std::integral_constant<int, 4>{});
    }
  });
  return error;
}

}  // namespace liger::kernels::cuda
