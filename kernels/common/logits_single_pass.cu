#include <cooperative_groups.h>
#include <cuda_pipeline.h>

#include <algorithm>

#include "kernels/common/cluster.cuh"
#include "kernels/common/cluster_sums.cuh"
#include "kernels/common/logits.cuh"
#include "kernels/common/logits_launch.h"

// Cross entropy and its gradient in one pass: each row is read once and written once. A cluster of
// blocks takes a row, each thread packs of its own, whose exponentials stay in its registers until
// the blocks have told each other the sums that the gradient divides by. Meanwhile two rows are on
// their way into shared memory, and the multiprocessor's other block works on a row of its own.
namespace liger::kernels::cuda {
namespace {

constexpr int kPacks = 8;  // a thread
constexpr int kRows = 2;   // in shared memory
// Bytes of a row that one block of a cluster holds.
constexpr int64_t HeldBytes(int threads) { return int64_t{threads} * kPacks * 16; }
constexpr int kFewThreads = 256, kManyThreads = 512;

// A target as a column that fits an int, or one of these. (Nobody's where there are no clusters.)
[[maybe_unused]] constexpr int kIgnored = -2, kOutOfRange = -1;

// As WriteResults has them.
template <typename T>
__device__ __forceinline__ Totals TotalsOf(const RowSums& row) {
  const double factor = double{Power<T>::kFactor};
  return {double{row.base}, row.e, row.weighted / factor, row.squares, row.z};
}

// `span` packs of a row belong to each block of its cluster. `out` may be the logits.
template <typename T, int THREADS, bool kStats>
__global__ void __launch_bounds__(THREADS, THREADS == kFewThreads ? 2 : 1)
    SinglePassKernel(const T* logits, T* out, LogitsShape shape, int64_t out_stride, int span,
                     const int64_t* __restrict__ target, const float* __restrict__ factor,
                     LogitsResults results) {
#if __CUDA_ARCH__ >= 900
  constexpr int VEC = kWide<T>, WARPS = THREADS / 32;
  using Exp = Power<T>;
  extern __shared__ uint4 staged[];
  // Of this row and of the one before, which a slow warp may still read.
  __shared__ WarpSums sums[2][MaxWarps(THREADS)];
  __shared__ MoreSums more[2][kStats ? MaxWarps(THREADS) : 1];
  const auto cluster = cooperative_groups::this_cluster();
  const int blocks = static_cast<int>(cluster.num_blocks());
  const int rank = static_cast<int>(cluster.block_rank());
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int packs = min(span, static_cast<int>(shape.V / VEC) - rank * span);
  // Packs of this thread: one of every THREADS.
  const int mine = max(0, (packs - thread + THREADS - 1) / THREADS);
  const int64_t first = (int64_t{rank} * span + thread) * VEC;  // this thread's column
  constexpr int kStep = THREADS * VEC;
  const int64_t step = gridDim.x / blocks, begin = blockIdx.x / blocks;
  uint4* const own = staged + thread;
  const auto fetch = [&](int64_t row, int y, int stage) {
    const T* from = logits + row * shape.stride + first;
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      if (y == kIgnored || i >= mine) break;
      __pipeline_memcpy_async(own + (stage * kPacks + i) * THREADS, from + i * kStep, 16);
    }
    __pipeline_commit();
  };
  // The target's place among this block's packs; its pack's thread corrects it at the end.
  const auto place = [&](int y) { return y - rank * span * VEC; };
  const auto owned = [&](int y) {
    const int at = place(y);
    return y >= 0 && at >= 0 && at < packs * VEC && at / VEC % THREADS == thread;
  };
  const auto target_of = [&](int64_t row) {
    return row < shape.C ? target[row] : shape.ignore_index;
  };
  const auto column_of = [&](int64_t y) {
    if (y == shape.ignore_index) return kIgnored;
    return y >= 0 && y < shape.V ? static_cast<int>(y) : kOutOfRange;
  };

  // Targets of this row and the next, and as it was read of the one after.
  int y = column_of(target_of(begin)), y1 = column_of(target_of(begin + step));
  int64_t read2 = target_of(begin + 2 * step);
  fetch(begin, y, 0);
  fetch(begin + step, y1, 1);
  // Nobody writes to a block that is not there yet.
  cluster.sync();
  int stage = 0, parity = 0;
  for (int64_t c = begin; c < shape.C; c += step, stage ^= 1) {
    const int y2 = column_of(read2);
    read2 = target_of(c + 3 * step);
    const bool sums_row = y != kIgnored;  // the same in the whole cluster
    const float f = sums_row ? factor[c] : 0.0f;
    __pipeline_wait_prior(1);
    float exps[kPacks][VEC], target_logit = NAN;
    WarpSums part{};
    if (sums_row) {
      if (owned(y)) {
        const uint4* pack = staged + stage * kPacks * THREADS + place(y) / VEC;
        target_logit = ToFloat(reinterpret_cast<const T*>(pack)[place(y) % VEC]);
      }
      MoreSums rest;
      part = SumWarp<kStats, T>(own + stage * kPacks * THREADS, THREADS, mine, exps, &rest);
      const int slot = rank * WARPS + thread / 32;
      if (lane < blocks) {
        *cluster.map_shared_rank(&sums[parity][slot], lane) = part;
        if constexpr (kStats) *cluster.map_shared_rank(&more[parity][slot], lane) = rest;
      }
      ArriveAtCluster();
    }
    // Into the places that SumWarp and the target have been read from.
    fetch(c + 2 * step, y2, stage);
    float scale = 0;
    RowSums row{};
    if (sums_row) {
      WaitForCluster();
      row = SumRow<kStats, T>(sums[parity], more[parity], blocks * WARPS);
      scale = static_cast<float>(double{f} / row.e);
      parity ^= 1;
    }
    T* const to = out + c * out_stride + first;
    const float shrunk = scale * Exp::Exp(Exp::Exponent(part.base, row.base));
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      if (i >= mine) break;
      float dz[VEC] = {};
      if (sums_row) {
#pragma unroll
        for (int j = 0; j < VEC; ++j) dz[j] = shrunk * exps[i][j];
      }
      Store<VEC>(to + i * kStep, Packed<T>(dz));
    }
    if (sums_row && owned(y)) {
      const float p = scale * Exp::Exp(Exp::Exponent(target_logit, row.base));
      out[c * out_stride + y] = FromFloat<T>(p - f);
      WriteResults<kStats>(TotalsOf<T>(row), target_logit, c, shape.V, results);
      if constexpr (kStats) {
        results.is_top1[c] = target_logit >= row.base ? 1.0f : 0.0f;
      }
    } else if (y == kOutOfRange && rank == 0 && thread == 0) {
      WriteResults<kStats>(TotalsOf<T>(row), NAN, c, shape.V, results);
    } else if (y == kIgnored && rank == 0 && thread == 0) {
      WriteIgnored<kStats>(c, results);
    }
    y = y1;
    y1 = y2;
  }
  // Nobody leaves, or its shared memory with it, before all have written there.
  cluster.sync();
#else
  __trap();
#endif
}

int64_t ElementBytes(Dtype dtype) { return dtype == Dtype::kFloat ? 4 : 2; }

bool HasClusters() { return CompiledForClusters(SinglePassKernel<float, kFewThreads, false>); }

// How a row is spread over a cluster.
struct Spread {
  int threads;  // a block
  unsigned blocks;
  size_t shared;
};

Spread SpreadOf(const LogitsShape& shape) {
  const int64_t row_bytes = shape.V * ElementBytes(shape.dtype);
  const int threads = row_bytes > HeldBytes(kFewThreads) * kMaxCluster ? kManyThreads : kFewThreads;
  const int64_t held = HeldBytes(threads);
  return {threads, static_cast<unsigned>((row_bytes + held - 1) / held),
          static_cast<size_t>(kRows * held)};
}

// Calls f(TypeTag<T>, threads, stats) for the kernel of these rows.
template <typename F>
void Dispatch(Dtype dtype, int threads, bool stats, const F& f) {
  DispatchDtype(dtype, [&](auto t) {
    const auto with_stats = [&](auto threads) {
      if (stats) {
        f(t, threads, std::true_type{});
      } else {
        f(t, threads, std::false_type{});
      }
    };
    if (threads == kManyThreads) {
      with_stats(std::integral_constant<int, kManyThreads>{});
    } else {
      with_stats(std::integral_constant<int, kFewThreads>{});
    }
  });
}

bool ClustersFit(const LogitsShape& shape, bool stats) {
  const Spread spread = SpreadOf(shape);
  int most = 0;
  Dispatch(shape.dtype, spread.threads, stats, [&](auto t, auto threads, auto with_stats) {
    constexpr auto kKernel = &SinglePassKernel<typename decltype(t)::type, threads(), with_stats()>;
    most = CountActiveClusters<kKernel>(spread.blocks, threads(), spread.shared);
  });
  return most > 0;
}

}  // namespace

bool HasSinglePass(const LogitsShape& shape, bool stats, const void* logits, int64_t out_stride,
                   const void* out) {
  const int64_t wide = 16 / ElementBytes(shape.dtype);
  return IsAligned(logits) && IsAligned(out) && shape.V > 0 && shape.V % wide == 0 &&
         shape.stride % wide == 0 && out_stride % wide == 0 &&
         shape.V * ElementBytes(shape.dtype) <= HeldBytes(kManyThreads) * kMaxCluster &&
         HasClusters() && ClustersFit(shape, stats);
}

Error CrossEntropyAndGrad(const Queue& queue, const LogitsShape& shape, const void* logits,
                          const int64_t* target, const float* factor,
                          const LogitsResults& results, int64_t out_stride, void* out) {
  if (shape.C == 0 || shape.V == 0) return 0;
  const Spread spread = SpreadOf(shape);
  Error error = 0;
  const bool stats = results.entropy != nullptr;
  Dispatch(shape.dtype, spread.threads, stats, [&](auto t, auto threads, auto with_stats) {
    using T = typename decltype(t)::type;
    constexpr auto kKernel = &SinglePassKernel<T, threads(), with_stats()>;
    const auto span = static_cast<int>((shape.V / kWide<T> + spread.blocks - 1) / spread.blocks);
    const int most = CountActiveClusters<kKernel>(spread.blocks, threads(), spread.shared);
    error = LaunchClusters(queue, kKernel, std::min<int64_t>(shape.C, most), spread.blocks,
                           threads(), spread.shared, static_cast<const T*>(logits),
                           static_cast<T*>(out), shape, out_stride, span, target, factor, results);
  });
  return error;
}

}  // namespace liger::kernels::cuda
