#ifndef LIGER_KERNELS_COMMON_CLUSTER_SUMS_CUH_
#define LIGER_KERNELS_COMMON_CLUSTER_SUMS_CUH_

#include "kernels/common/cluster.cuh"
#include "kernels/common/logits.cuh"

// Sums of exponentials over rows of logits by clusters of blocks: each warp sums what its threads
// hold and sends that to all blocks, and each warp there adds up what came.
namespace liger::kernels::cuda {

inline constexpr int kMaxCluster = 8;
// Of a cluster whose blocks have so many threads.
constexpr int MaxWarps(int threads) { return threads / 32 * kMaxCluster; }

// A barrier of the cluster in two halves: what a thread wrote before it arrived, in any block, is
// there for all who have waited. Only for whole warps.
__device__ __forceinline__ void ArriveAtCluster() {
#if __CUDA_ARCH__ >= 900
  __syncwarp();
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void WaitForCluster() {
#if __CUDA_ARCH__ >= 900
  __syncwarp();
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// exp(z - base) of logits of type T, as Exp(Exponent(z, base)): of 16-bit ones in powers of two.
// The difference comes before the factor: of a logit of 1e10, as masks have, the product alone is
// rounded by hundreds.
template <typename T>
struct Power {
  static constexpr bool kBinary = sizeof(T) == 2;
  static constexpr float kFactor = kBinary ? kLog2e : 1.0f;
  __device__ static __forceinline__ float Exponent(float z, float base) {
    return (z - base) * kFactor;
  }
  __device__ static __forceinline__ float Exp(float exponent) {
    if constexpr (!kBinary) return expf(exponent);
    float e;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(exponent));
    return e;
  }
};

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

// The sums of a warp relative to its base, its largest logit, as they travel between blocks.
struct WarpSums {
  float base, e;
};
struct MoreSums {
  float weighted, squares;  // sum e (exponent), sum e^2
  double z;
};

__device__ __forceinline__ float WarpMax(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
  }
  return v;
}

// Out of shared memory, each time anew: the compiler would keep what it has read in registers.
template <typename P>
__device__ __forceinline__ P ReadShared(const uint4* pack) {
  uint4 raw;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(raw.x), "=r"(raw.y), "=r"(raw.z), "=r"(raw.w)
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(pack))));
  return FromRaw<P>(raw);
}

// Of a warp's logits in shared memory, of which a thread has `mine` packs, `stride` apart; in all
// lanes. `exps`: each logit's exponential, relative to the warp's base.
template <bool kStats, typename T, int PACKS, int VEC>
__device__ __forceinline__ WarpSums SumWarp(const uint4* packs, int stride, int mine,
                                            float (&exps)[PACKS][VEC], MoreSums* more) {
  using P = Pack<T, VEC>;
  using Exp = Power<T>;
  Largest<T> largest;
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    if (i < mine) largest.Take(ReadShared<P>(packs + i * stride));
  }
  const float base = WarpMax(largest.Get());
  const float finite = base == -INFINITY ? 0.0f : base;
  float sum = 0, weighted = 0, squares = 0;
  double z_sum = 0;
#pragma unroll
  for (int i = 0; i < PACKS; ++i) {
    if (i >= mine) break;
    float z[VEC], e_part = 0, z_part = 0;
    Unpack(ReadShared<P>(packs + i * stride), z);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      const float x = Exp::Exponent(z[j], finite), e = Exp::Exp(x);
      exps[i][j] = e;
      e_part += e;
      if constexpr (kStats) {
        weighted += e == 0 ? 0.0f : e * x;
        squares += e * e;
        z_part += z[j];
      }
    }
    sum += e_part;
    if constexpr (kStats) z_sum += z_part;
  }
  if constexpr (kStats) *more = {WarpSum(weighted), WarpSum(squares), WarpSum(z_sum)};
  return {base, WarpSum(sum)};
}

// All warps' sums -> the row's, relative to its base; in all lanes of every warp. `factor`: of the
// exponents.
struct RowSums {
  float base;
  double e, weighted, squares, z;
};

template <bool kStats, typename T, int MAX_WARPS>
__device__ __forceinline__ RowSums SumRow(const WarpSums (&sums)[MAX_WARPS], const MoreSums* more,
                                          int warps, float factor = Power<T>::kFactor) {
  constexpr int kEach = MAX_WARPS / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  WarpSums each[kEach];
  RowSums row{-INFINITY, 0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    each[i] = lane + 32 * i < warps ? sums[lane + 32 * i] : WarpSums{-INFINITY, 0};
    row.base = fmaxf(row.base, each[i].base);
  }
  row.base = WarpMax(row.base);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    // Nothing but -inf in that warp; a NaN in it must not be lost.
    if (each[i].base == -INFINITY && each[i].e == 0) continue;
    const float d = (each[i].base - row.base) * factor, shrink = Power<T>::Exp(d);
    row.e += double{each[i].e * shrink};
    if constexpr (kStats) {
      const MoreSums& one = more[lane + 32 * i];
      row.weighted += double{shrink * (one.weighted + (shrink == 0 ? 0.0f : d * each[i].e))};
      row.squares += double{one.squares * shrink * shrink};
    }
  }
  row.e = WarpSum(row.e);
  if constexpr (kStats) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (lane + 32 * i < warps) row.z += more[lane + 32 * i].z;
    }
    row.weighted = WarpSum(row.weighted);
    row.squares = WarpSum(row.squares);
    row.z = WarpSum(row.z);
  }
  return row;
}

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_CLUSTER_SUMS_CUH_
