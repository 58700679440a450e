#include <cooperative_groups.h>
#include <cuda_pipeline.h>

#include <algorithm>

#include "kernels/common/cluster.cuh"
#include "kernels/common/cluster_sums.cuh"
#include "kernels/common/logits.cuh"
#include "kernels/common/logits_launch.h"

// Cross entropy and its gradient in one pass: each row is read once and written once. A cluster of
// blocks holds a row in shared memory, each thread its own packs of it, and walks over the rows in
// three steps that overlap: while the blocks tell each other the sums of one row, they write the
// gradient of the row before and fetch the row after next into the places that this leaves free.
namespace liger::kernels::cuda {
namespace {

constexpr int kRows = 3;  // in shared memory
// Bytes of a row that one block of a cluster holds, 64 or 128 a thread.
constexpr int64_t kHeldBytes = int64_t{kReduceThreads} * 64;

// A target as a column that fits an int, or one of these. (Nobody's where there are no clusters.)
[[maybe_unused]] constexpr int kIgnored = -2, kOutOfRange = -1;

// As WriteResults has them.
template <typename T>
__device__ __forceinline__ Totals TotalsOf(const RowSums& row) {
  const double factor = double{Power<T>::kFactor};
  return {double{row.base} / factor, row.e, row.weighted / factor, row.squares, row.z};
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
  using Exp = Power<T>;
  extern __shared__ uint4 staged[];
  // Of this row and of the one before, which a slow warp may still read.
  __shared__ WarpSums sums[2][kMaxWarps];
  __shared__ MoreSums more[2][kStats ? kMaxWarps : 1];
  const auto cluster = cooperative_groups::this_cluster();
  const int blocks = static_cast<int>(cluster.num_blocks());
  const int rank = static_cast<int>(cluster.block_rank());
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int packs = min(span, static_cast<int>(shape.V / VEC) - rank * span);
  // Packs of this thread: one of every kReduceThreads.
  const int mine = max(0, (packs - thread + kReduceThreads - 1) / kReduceThreads);
  const int64_t first = (int64_t{rank} * span + thread) * VEC;  // this thread's column
  constexpr int kStep = kReduceThreads * VEC;
  const int64_t step = gridDim.x / blocks, begin = blockIdx.x / blocks;
  const auto place = [&](int stage, int i) {
    return staged + (stage * PACKS + i) * kReduceThreads + thread;
  };
  const auto fetch_pack = [&](int64_t row, int stage, int i) {
    __pipeline_memcpy_async(place(stage, i), logits + row * shape.stride + first + i * kStep, 16);
  };
  const auto fetch = [&](int64_t row, int y, int stage) {
#pragma unroll
    for (int i = 0; i < PACKS; ++i) {
      if (y != kIgnored && i < mine) fetch_pack(row, stage, i);
    }
    __pipeline_commit();
  };
  // The target's pack among this block's, or none; whose it is corrects it at the end.
  const auto owned = [&](int y) {
    const int at = y - rank * span * VEC;
    return y >= 0 && at >= 0 && at < packs * VEC && at / VEC % kReduceThreads == thread;
  };
  const auto logit = [&](int y, int stage) {
    const int at = y - rank * span * VEC;
    const uint4* pack = staged + stage * PACKS * kReduceThreads + at / VEC;
    return ToFloat(reinterpret_cast<const T*>(pack)[at % VEC]);
  };
  const auto target_of = [&](int64_t row) {
    return row < shape.C ? target[row] : shape.ignore_index;
  };
  const auto column_of = [&](int64_t y) {
    if (y == shape.ignore_index) return kIgnored;
    return y >= 0 && y < shape.V ? static_cast<int>(y) : kOutOfRange;
  };

  // Targets of the row before, of this one and the next, and as it was read of the one after.
  int y_before = kIgnored, y = column_of(target_of(begin));
  int y1 = column_of(target_of(begin + step));
  int64_t read2 = target_of(begin + 2 * step);
  fetch(begin, y, 0);
  fetch(begin + step, y1, 1);
  // Nobody writes to a block that is not there yet.
  cluster.sync();
  int stage = 0, parity = 0;
  float base = 0, scale = 0, f_before = 0;  // of the row before
  // One round more than rows: the last one writes only.
  for (int64_t c = begin; c < shape.C + step; c += step) {
    const int y2 = column_of(read2);
    read2 = target_of(c + 3 * step);
    const bool sums_row = y != kIgnored;  // the same in the whole cluster
    const float f = sums_row ? factor[c] : 0.0f;
    __pipeline_wait_prior(1);
    if (sums_row) {
      P held[PACKS];
#pragma unroll
      for (int i = 0; i < PACKS; ++i) {
        if (i < mine) held[i] = FromRaw<P>(*place(stage, i));
      }
      MoreSums rest;
      const WarpSums own = SumWarp<kStats>(held, mine, &rest);
      const int slot = rank * kReduceWarps + thread / 32;
      if (lane < blocks) {
        *cluster.map_shared_rank(&sums[parity][slot], lane) = own;
        if constexpr (kStats) *cluster.map_shared_rank(&more[parity][slot], lane) = rest;
      }
      ArriveAtCluster();
    }
    // The row before, whose place the row after the next takes.
    const int last = stage == 0 ? kRows - 1 : stage - 1;
    const bool writes = c != begin, written_to = y_before != kIgnored;
    const float target_logit = written_to && owned(y_before) ? logit(y_before, last) : 0;
    T* const to = out + (c - step) * out_stride + first;
#pragma unroll
    for (int i = 0; i < PACKS; ++i) {
      if (i >= mine) break;
      float dz[VEC] = {};
      if (written_to) {
        float z[VEC];
        Unpack(FromRaw<P>(*place(last, i)), z);
#pragma unroll
        for (int j = 0; j < VEC; ++j) dz[j] = scale * Exp::Exp(Exp::Exponent(z[j], base));
      }
      if (writes) Store<VEC>(to + i * kStep, Packed<T>(dz));
      if (y2 != kIgnored) fetch_pack(c + 2 * step, last, i);
    }
    __pipeline_commit();
    if (written_to && owned(y_before)) {
      const float p = scale * Exp::Exp(Exp::Exponent(target_logit, base));
      out[(c - step) * out_stride + y_before] = FromFloat<T>(p - f_before);
    }
    if (sums_row) {
      WaitForCluster();
      const RowSums row = SumRow<kStats, T>(sums[parity], more[parity], blocks * kReduceWarps);
      base = row.base;
      scale = static_cast<float>(double{f} / row.e);
      f_before = f;
      if (owned(y)) {
        WriteResults<kStats>(TotalsOf<T>(row), logit(y, stage), c, shape.V, results);
        if constexpr (kStats) {
          results.is_top1[c] = Exp::BaseOf(logit(y, stage)) >= row.base ? 1.0f : 0.0f;
        }
      } else if (y == kOutOfRange && rank == 0 && thread == 0) {
        WriteResults<kStats>(TotalsOf<T>(row), NAN, c, shape.V, results);
      }
      parity ^= 1;
    } else if (c < shape.C && rank == 0 && thread == 0) {
      WriteIgnored<kStats>(c, results);
    }
    y_before = y;
    y = y1;
    y1 = y2;
    stage = stage + 1 == kRows ? 0 : stage + 1;
  }
  // Nobody leaves, or its shared memory with it, before all have written there.
  cluster.sync();
#else
  __trap();
#endif
}

int64_t ElementBytes(Dtype dtype) { return dtype == Dtype::kFloat ? 4 : 2; }

bool HasClusters() { return CompiledForClusters(SinglePassKernel<float, 4, false>); }

// How a row is spread over a cluster.
struct Spread {
  bool large;  // 8 packs a thread, not 4
  unsigned blocks;
  size_t shared;
};

Spread SpreadOf(const LogitsShape& shape) {
  const int64_t row_bytes = shape.V * ElementBytes(shape.dtype);
  const bool large = row_bytes > kHeldBytes * kMaxCluster;
  const int64_t held = large ? 2 * kHeldBytes : kHeldBytes;
  return {large, static_cast<unsigned>((row_bytes + held - 1) / held),
          static_cast<size_t>(kRows * held)};
}

// Calls f(TypeTag<T>, packs, stats) for the kernel of these rows.
template <typename F>
void Dispatch(Dtype dtype, bool large, bool stats, const F& f) {
  DispatchDtype(dtype, [&](auto t) {
    const auto with_stats = [&](auto packs) {
      if (stats) {
        f(t, packs, std::true_type{});
      } else {
        f(t, packs, std::false_type{});
      }
    };
    if (large) {
      with_stats(std::integral_constant<int, 8>{});
    } else {
      with_stats(std::integral_constant<int, 4>{});
    }
  });
}

bool ClustersFit(const LogitsShape& shape, bool stats) {
  const Spread spread = SpreadOf(shape);
  int most = 0;
  Dispatch(shape.dtype, spread.large, stats, [&](auto t, auto packs, auto with_stats) {
    constexpr auto kKernel = &SinglePassKernel<typename decltype(t)::type, packs(), with_stats()>;
    most = CountActiveClusters<kKernel>(spread.blocks, kReduceThreads, spread.shared);
  });
  return most > 0;
}

}  // namespace

bool HasSinglePass(const LogitsShape& shape, bool stats, const void* logits, int64_t out_stride,
                   const void* out) {
  const int64_t wide = 16 / ElementBytes(shape.dtype);
  return IsAligned(logits) && IsAligned(out) && shape.V > 0 && shape.V % wide == 0 &&
         shape.stride % wide == 0 && out_stride % wide == 0 &&
         shape.V * ElementBytes(shape.dtype) <= 2 * kHeldBytes * kMaxCluster && HasClusters() &&
         ClustersFit(shape, stats);
}

Error CrossEntropyAndGrad(const Queue& queue, const LogitsShape& shape, const void* logits,
                          const int64_t* target, const float* factor,
                          const LogitsResults& results, int64_t out_stride, void* out) {
  if (shape.C == 0 || shape.V == 0) return 0;
  const Spread spread = SpreadOf(shape);
  Error error = 0;
  const bool stats = results.entropy != nullptr;
  Dispatch(shape.dtype, spread.large, stats, [&](auto t, auto packs, auto with_stats) {
    using T = typename decltype(t)::type;
    constexpr auto kKernel = &SinglePassKernel<T, packs(), with_stats()>;
    const auto span = static_cast<int>((shape.V / kWide<T> + spread.blocks - 1) / spread.blocks);
    const int most = CountActiveClusters<kKernel>(spread.blocks, kReduceThreads, spread.shared);
    error = LaunchClusters(queue, kKernel, std::min<int64_t>(shape.C, most), spread.blocks,
                           kReduceThreads, spread.shared, static_cast<const T*>(logits),
                           static_cast<T*>(out), shape, out_stride, span, target, factor, results);
  });
  return error;
}

}  // namespace liger::kernels::cuda
