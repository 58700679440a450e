#include <cooperative_groups.h>

#include <algorithm>

#include "kernels/common/cluster.cuh"
#include "kernels/common/logits.cuh"
#include "kernels/common/logits_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kGradThreads = 256;
constexpr int kGradPacks = 4;

template <bool kStats>
__device__ void WriteIgnored(int64_t c, const LogitsResults& out) {
  out.logsumexp[c] = out.logp[c] = 0;
  if constexpr (kStats) {
    out.entropy[c] = out.log_sum_sq[c] = out.mean_logit[c] = out.is_top1[c] = 0;
  }
}

template <bool kStats>
__device__ void WriteResults(const Totals& t, float at_target, int64_t c, int64_t V,
                             const LogitsResults& out) {
  const double log_e = log(t.e), lse = t.max + log_e;
  out.logsumexp[c] = lse;
  out.logp[c] = double{at_target} - lse;
  if constexpr (kStats) {
    // -sum p log p with log p = z - m - log e.
    out.entropy[c] = static_cast<float>(log_e - t.weighted / t.e);
    out.log_sum_sq[c] = static_cast<float>(log(t.squares) - 2 * log_e);
    out.mean_logit[c] = static_cast<float>(t.z / static_cast<double>(V));
    out.is_top1[c] = at_target >= t.max ? 1.0f : 0.0f;
  }
}

template <typename T, int VEC, bool kStats>
__global__ void __launch_bounds__(kReduceThreads)
    ReduceKernel(const T* __restrict__ logits, LogitsShape shape,
                 const int64_t* __restrict__ target, LogitsResults out) {
  const int64_t c = blockIdx.x;
  const int64_t y = target[c];
  if (y == shape.ignore_index) {
    if (threadIdx.x == 0) WriteIgnored<kStats>(c, out);
    return;
  }
  const T* row = logits + c * shape.stride;
  Sums s;
  for (int64_t v = int64_t{threadIdx.x} * VEC; v < shape.V; v += int64_t{kReduceThreads} * VEC) {
    float z[VEC];
    Unpack(Load<VEC>(row + v), z);
    Add<kStats, T>(z, s);
  }
  const Totals t = ReduceBlock<kStats>(s);
  if (threadIdx.x != 0) return;
  const bool in_range = y >= 0 && y < shape.V;
  WriteResults<kStats>(t, in_range ? ToFloat(row[y]) : NAN, c, shape.V, out);
}

template <typename T, typename D, int VEC>
__global__ void __launch_bounds__(kGradThreads)
    GradKernel(const T* logits, LogitsShape shape, const double* __restrict__ logsumexp,
               const int64_t* __restrict__ target, const float* __restrict__ factor,
               int64_t out_stride, D* out) {
  const int64_t c = blockIdx.y;
  const int64_t y = target[c];
  const T* row = logits + c * shape.stride;
  D* out_row = out + c * out_stride;
  const bool ignored = y == shape.ignore_index;
  const double lse = ignored ? 0 : logsumexp[c];
  const ExpMinus<T> softmax(lse);
  const float f = ignored ? 0 : factor[c];
  const int64_t begin = int64_t{blockIdx.x} * (kGradThreads * VEC * kGradPacks);
#pragma unroll
  for (int i = 0; i < kGradPacks; ++i) {
    const int64_t v = begin + (int64_t{i} * kGradThreads + threadIdx.x) * VEC;
    if (v >= shape.V) return;
    float dz[VEC] = {};
    if (!ignored) {
      float z[VEC];
      Unpack(LoadOnce<VEC>(row + v), z);
      // -1 where the target is not among them; a comparison of 64 bits each would cost more than
      // the exponential.
      const int hit = y >= v && y < v + VEC ? static_cast<int>(y - v) : -1;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const float p = softmax(z[j]);
        dz[j] = f * (j == hit ? p - 1.0f : p);
      }
    }
    Store<VEC>(out_row + v, Packed<D>(dz));
  }
}

// Bytes of a row that one block of a cluster holds, 64 or 128 a thread.
constexpr int64_t kHeldBytes = int64_t{kReduceThreads} * 64;
constexpr int kMaxCluster = 8;

// One cluster a row; each block keeps its span of the row in registers between the sums and
// the gradient.
template <typename T, int PACKS, bool kStats>
__global__ void __launch_bounds__(kReduceThreads, 2)
    SinglePassKernel(T* logits, LogitsShape shape, int64_t span,
                     const int64_t* __restrict__ target, const float* __restrict__ factor,
                     LogitsResults out) {
#if __CUDA_ARCH__ >= 900
  namespace cg = cooperative_groups;
  constexpr int VEC = kWide<T>;
  const cg::cluster_group cluster = cg::this_cluster();
  const unsigned blocks = cluster.num_blocks(), rank = cluster.block_rank();
  const int64_t c = blockIdx.x / blocks;
  const int64_t y = target[c];
  const int64_t begin = rank * span, end = begin + span < shape.V ? begin + span : shape.V;
  T* row = logits + c * shape.stride;
  if (y == shape.ignore_index) {
    Pack<T, VEC> zero;
#pragma unroll
    for (int j = 0; j < VEC; ++j) zero.v[j] = FromFloat<T>(0.0f);
    for (int64_t v = begin + int64_t{threadIdx.x} * VEC; v < end; v += kReduceThreads * VEC) {
      Store<VEC>(row + v, zero);
    }
    if (rank == 0 && threadIdx.x == 0) WriteIgnored<kStats>(c, out);
    return;
  }
  const bool in_range = y >= 0 && y < shape.V;
  // Before any block overwrites it: they all wait for this one below.
  const float at_target =
      rank == 0 && threadIdx.x == 0 && in_range ? ToFloat(row[y]) : NAN;
  const float f = factor[c];
  Pack<T, VEC> held[PACKS];
  const int64_t first = begin + int64_t{threadIdx.x} * VEC;
  constexpr int64_t kStep = int64_t{kReduceThreads} * VEC;
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    if (first + i * kStep < end) held[i] = LoadOnce<VEC>(row + first + i * kStep);
  }
  // Whose element the target is corrects it at the end.
  const bool owner = y >= begin && y < end && (y - begin) / VEC % kReduceThreads == threadIdx.x;
  const float own_target = owner ? ToFloat(row[y]) : 0;
  Sums s;
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    if (first + i * kStep >= end) break;
    float z[VEC];
    Unpack(held[i], z);
#pragma unroll
    for (int j = 0; j < VEC; ++j) s.max = fmaxf(s.max, z[j]);
  }
  s.max = BlockMax(s.max);
  const ExpMinus<T> exp_minus(double{s.max == -INFINITY ? 0.0f : s.max});
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    if (first + i * kStep >= end) break;
    float z[VEC];
    Unpack(held[i], z);
    float sum = 0;
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
  __shared__ Totals mine;
  __shared__ double row_lse;
  const Totals block = SumBlock<kStats>(s);
  if (threadIdx.x == 0) mine = block;
  cluster.sync();
  if (threadIdx.x < 32) {
    const unsigned lane = threadIdx.x;
    Totals t{-INFINITY, 0, 0, 0, 0};
    if (lane < blocks) t = *cluster.map_shared_rank(&mine, lane);
    double top = t.max;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      top = fmax(top, __shfl_xor_sync(0xffffffffu, top, offset));
    }
    RebaseTo<kStats>(top, t);
    t.e = WarpSum(t.e);
    if constexpr (kStats) {
      t.weighted = WarpSum(t.weighted);
      t.squares = WarpSum(t.squares);
      t.z = WarpSum(t.z);
    }
    if (lane == 0) {
      row_lse = t.max + log(t.e);
      if (rank == 0) WriteResults<kStats>(t, at_target, c, shape.V, out);
    }
  }
  // Nobody leaves, or its shared memory with it, before all have read.
  auto token = cluster.barrier_arrive();
  __syncthreads();
  const ExpMinus<T> softmax(row_lse);
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    if (first + i * kStep >= end) break;
    float z[VEC], dz[VEC];
    Unpack(held[i], z);
#pragma unroll
    for (int j = 0; j < VEC; ++j) dz[j] = f * softmax(z[j]);
    Store<VEC>(row + first + i * kStep, Packed<T>(dz));
  }
  if (owner) row[y] = FromFloat<T>(f * (softmax(own_target) - 1.0f));
  cluster.barrier_wait(std::move(token));
#else
  __trap();
#endif
}

int64_t ElementBytes(Dtype dtype) { return dtype == Dtype::kFloat ? 4 : 2; }

bool HasClusters() { return CompiledForClusters(SinglePassKernel<float, 4, false>); }

}  // namespace

bool HasSinglePass(const LogitsShape& shape, const void* logits) {
  const int64_t wide = 16 / ElementBytes(shape.dtype);
  return IsAligned(logits) && shape.V % wide == 0 && shape.stride % wide == 0 &&
         shape.V * ElementBytes(shape.dtype) <= 2 * kHeldBytes * kMaxCluster && HasClusters();
}

Error CrossEntropyInPlace(const Queue& queue, const LogitsShape& shape, void* logits,
                          const int64_t* target, const float* factor,
                          const LogitsResults& results) {
  if (shape.C == 0 || shape.V == 0) return 0;
  const int64_t row_bytes = shape.V * ElementBytes(shape.dtype);
  const bool large = row_bytes > kHeldBytes * kMaxCluster;
  const int64_t held = large ? 2 * kHeldBytes : kHeldBytes;
  const auto blocks = static_cast<unsigned>((row_bytes + held - 1) / held);
  Error error = 0;
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const int64_t wide = kWide<T>;
    const int64_t span = (shape.V / wide + blocks - 1) / blocks * wide;
    const auto run = [&](auto packs, auto stats) {
      error = LaunchClusters(queue, SinglePassKernel<T, packs(), stats()>, shape.C, blocks,
                             kReduceThreads, 0, static_cast<T*>(logits), shape, span, target,
                             factor, results);
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

Error ReduceLogits(const Queue& queue, const LogitsShape& shape, const void* logits,
                   const int64_t* target, const LogitsResults& results) {
  if (shape.C == 0) return 0;
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto run = [&](auto vec, auto stats) {
      ReduceKernel<T, vec(), stats()>
          <<<static_cast<unsigned>(shape.C), kReduceThreads, 0, StreamOf(queue)>>>(
              static_cast<const T*>(logits), shape, target, results);
    };
    const auto with_stats = [&](auto vec) {
      if (results.entropy != nullptr) {
        run(vec, std::true_type{});
      } else {
        run(vec, std::false_type{});
      }
    };
    constexpr int kVec = kWide<T>;
    if (IsAligned(logits) && shape.V % kVec == 0 && shape.stride % kVec == 0) {
      with_stats(std::integral_constant<int, kVec>{});
    } else {
      with_stats(std::integral_constant<int, 1>{});
    }
  });
  return LaunchError();
}

Error CrossEntropyGrad(const Queue& queue, const LogitsShape& shape, const void* logits,
                       const double* logsumexp, const int64_t* target, const float* factor,
                       Dtype out_dtype, int64_t out_stride, void* out) {
  if (shape.C == 0 || shape.V == 0) return 0;
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto run = [&](auto d, auto vec) {
      using D = typename decltype(d)::type;
      constexpr int64_t kColumns = int64_t{kGradThreads} * vec() * kGradPacks;
      constexpr int64_t kMaxRows = 65535;
      for (int64_t c = 0; c < shape.C; c += kMaxRows) {
        const dim3 blocks(static_cast<unsigned>((shape.V + kColumns - 1) / kColumns),
                          static_cast<unsigned>(std::min(kMaxRows, shape.C - c)));
        GradKernel<T, D, vec()><<<blocks, kGradThreads, 0, StreamOf(queue)>>>(
            static_cast<const T*>(logits) + c * shape.stride, shape, logsumexp + c, target + c,
            factor + c, out_stride, static_cast<D*>(out) + c * out_stride);
      }
    };
    const auto with_out = [&](auto vec) {
      if (out_dtype == shape.dtype) {
        run(t, vec);
      } else {
        run(TypeTag<float>{}, vec);
      }
    };
    // Wide by the wider of the two types.
    constexpr int kVec = kWide<T>;
    const bool same = out_dtype == shape.dtype;
    if (same && IsAligned(logits) && IsAligned(out) && shape.V % kVec == 0 &&
        shape.stride % kVec == 0 && out_stride % kVec == 0) {
      run(t, std::integral_constant<int, kVec>{});
    } else {
      with_out(std::integral_constant<int, 1>{});
    }
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
