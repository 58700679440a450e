#ifndef LIGER_KERNELS_COMMON_LOGITS_CUH_
#define LIGER_KERNELS_COMMON_LOGITS_CUH_

#include "kernels/common/device.cuh"
#include "kernels/common/logits_launch.h"

// Sums over a row of logits by a block of threads, which kernels over logits share.
namespace liger::kernels::cuda {

inline constexpr int kReduceThreads = 512;

inline constexpr float kLog2e = 1.44269504088896341f;

// exp(z - m) of logits of type T, for one m and many z. Of 16-bit logits by ex2, without expf's
// second half of log2(e): off by 2e-8 times |z - m|, which their own rounding hides.
template <typename T>
class ExpMinus {
 public:
  // m in double: its rounding to float would cost every result the same digits.
  __device__ explicit ExpMinus(double m)
      : high_(static_cast<float>(m)),
        low_(static_cast<float>(m - double{high_}) * (sizeof(T) == 2 ? kLog2e : 1.0f)) {}
  __device__ __forceinline__ float operator()(float z) const {
    if constexpr (sizeof(T) == 2) {
      // The difference before the factor: the lowest bfloat16 times log2(e) is -inf.
      float e;
      asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(fmaf(z - high_, kLog2e, -low_)));
      return e;
    }
    return expf((z - high_) - low_);
  }

 private:
  float high_, low_;
};

// Sums over logits z relative to their running maximum m, with e = exp(z - m).
struct Sums {
  float max = -INFINITY;
  float e = 0;        // sum e, without `lost`
  float lost = 0;     // what e has been rounded off; of float32 logits
  float weighted = 0; // sum e (z - m)
  float squares = 0;  // sum e^2
  double z = 0;       // sum z
};

// Moves the sums to a new maximum. With m' = m + d: e (z - m') = e (z - m) - e d.
template <bool kStats, typename F>
__device__ __forceinline__ void Rebase(F& e, F& weighted, F& squares, F old_max, F new_max) {
  const F d = new_max - old_max;
  const F shrink = d == 0 ? F(1) : exp(-d);
  if constexpr (kStats) {
    // e d may be inf, or 0 * inf while there is nothing yet.
    weighted = shrink == 0 ? F(0) : shrink * (weighted - e * d);
    squares *= shrink * shrink;
  }
  e *= shrink;
}

// s.e += sum. Nearly all terms of a row are far below its largest, so that one after the other each
// loses its last digits, and many all of them, always downwards: over the 390 of a thread in a row
// of 200064 float32 logits that makes the logsumexp 3e-7 too small (of 16-bit ones it is nothing).
__device__ __forceinline__ void AddExponentials(float sum, Sums& s) {
  const float before = s.e;
  s.e += sum;
  const float added = s.e - before;
  s.lost += (before - (s.e - added)) + (sum - added);
}

__device__ __forceinline__ void TakeBackLost(Sums& s) {
  s.e += s.lost;
  s.lost = 0;
}

// T: the dtype that the logits came in.
template <bool kStats, typename T, int VEC>
__device__ __forceinline__ void Add(const float (&z)[VEC], Sums& s) {
  float top = s.max;
#pragma unroll
  for (int j = 0; j < VEC; ++j) top = fmaxf(top, z[j]);
  if (top > s.max) {
    TakeBackLost(s);
    Rebase<kStats>(s.e, s.weighted, s.squares, s.max, top);
    s.max = top;
  }
  if constexpr (kStats) {
    float sum = 0;
#pragma unroll
    for (int j = 0; j < VEC; ++j) sum += z[j];
    s.z += sum;
  }
  if (top == -INFINITY) {
    // Nothing finite yet; a NaN must not be lost.
#pragma unroll
    for (int j = 0; j < VEC; ++j) s.e += isnan(z[j]) ? z[j] : 0.0f;
    return;
  }
  const ExpMinus<T> exp_minus(double{s.max});
  // float32 among themselves first: so they lose less.
  constexpr bool kApart = sizeof(T) == 4;
  Sums part = s;
  if constexpr (kApart) part.e = part.weighted = part.squares = 0;
#pragma unroll
  for (int j = 0; j < VEC; ++j) {
    const float e = exp_minus(z[j]);
    part.e += e;
    if constexpr (kStats) {
      part.weighted += e == 0 ? 0.0f : e * (z[j] - s.max);
      part.squares += e * e;
    }
  }
  if constexpr (kApart) {
    AddExponentials(part.e, s);
    s.weighted += part.weighted;
    s.squares += part.squares;
  } else {
    s = part;
  }
}

// The same of more elements, in double.
struct Totals {
  double max, e, weighted, squares, z;
};

// Brings what was summed relative to `t.max` to the maximum `top`. Nothing summed: stays 0.
template <bool kStats>
__device__ __forceinline__ void RebaseTo(double top, Totals& t) {
  if (t.max == -INFINITY && t.e == 0) {
    t.weighted = t.squares = 0;
  } else {
    Rebase<kStats>(t.e, t.weighted, t.squares, t.max, top);
  }
  t.max = top;
}

// The maximum over a block of kReduceThreads, in every thread. Drops NaN, which the sums keep.
__device__ __forceinline__ float BlockMax(float top) {
  __shared__ float tops[kReduceThreads / 32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
  }
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = top;
  __syncthreads();
  top = tops[0];
#pragma unroll
  for (int i = 1; i < kReduceThreads / 32; ++i) top = fmaxf(top, tops[i]);
  return top;
}

// Adds up sums that are relative to one maximum, over a block, in every thread.
template <bool kStats>
__device__ __forceinline__ Totals SumBlock(const Sums& s) {
  __shared__ double scratch[4][32];
  Totals t{s.max, BlockSum(double{s.e}, scratch[0]), 0, 0, 0};
  if constexpr (kStats) {
    t.weighted = BlockSum(double{s.weighted}, scratch[1]);
    t.squares = BlockSum(double{s.squares}, scratch[2]);
    t.z = BlockSum(s.z, scratch[3]);
  }
  return t;
}

// Both, of sums that each thread has relative to its own maximum.
template <bool kStats>
__device__ __forceinline__ Totals ReduceBlock(Sums s) {
  TakeBackLost(s);
  const float top = BlockMax(s.max);
  if (s.max == -INFINITY && s.e == 0) {
    s.weighted = s.squares = 0;
  } else {
    // In float32, whose rounding is one of the many that the sum averages.
    Rebase<kStats>(s.e, s.weighted, s.squares, s.max, top);
  }
  s.max = top;
  return SumBlock<kStats>(s);
}

template <bool kStats>
__device__ inline void WriteIgnored(int64_t c, const LogitsResults& out) {
  out.logsumexp[c] = out.logp[c] = 0;
  if constexpr (kStats) {
    out.entropy[c] = out.log_sum_sq[c] = out.mean_logit[c] = out.is_top1[c] = 0;
  }
}

template <bool kStats>
__device__ inline void WriteResults(const Totals& t, float at_target, int64_t c, int64_t V,
                             const LogitsResults& out) {
  const double log_e = log(t.e), lse = t.max + log_e;
  out.logsumexp[c] = lse;
  out.logp[c] = (double{at_target} - t.max) - log_e;
  if constexpr (kStats) {
    // -sum p log p with log p = z - m - log e.
    out.entropy[c] = static_cast<float>(log_e - t.weighted / t.e);
    out.log_sum_sq[c] = static_cast<float>(log(t.squares) - 2 * log_e);
    out.mean_logit[c] = static_cast<float>(t.z / static_cast<double>(V));
    out.is_top1[c] = at_target >= t.max ? 1.0f : 0.0f;
  }
}

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_LOGITS_CUH_
