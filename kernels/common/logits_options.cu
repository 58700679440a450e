#include <algorithm>
#include <climits>

#include "kernels/common/logits.cuh"
#include "kernels/common/logits_options_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kGradThreads = 256;
constexpr int kGradPacks = 4;

// z' of a logit, and its derivative.
class Mapping {
 public:
  __device__ explicit Mapping(const LogitsMap& map)
      : scale_(map.scale),
        inverse_cap_(map.softcap == 0 ? 0 : 1.0f / map.softcap),
        bound_(map.softcap * map.scale),
        inverse_bound_(1.0f / bound_) {}
  // Rounded, never fused with what follows: sums and probabilities must be of the same numbers.
  __device__ __forceinline__ float operator()(float z) const {
    return bound_ == 0 ? __fmul_rn(scale_, z) : __fmul_rn(bound_, tanhf(z * inverse_cap_));
  }
  // Given z' itself: scale (1 - (z' / bound)^2).
  __device__ __forceinline__ float Derivative(float mapped) const {
    if (bound_ == 0) return scale_;
    const float t = mapped * inverse_bound_;
    return scale_ * (1.0f - t) * (1.0f + t);
  }

 private:
  float scale_, inverse_cap_, bound_, inverse_bound_;
};

// The highest logit and the lowest place where it stands.
struct Best {
  float z = -INFINITY;
  int64_t v = LLONG_MAX;

  __device__ __forceinline__ void Take(float other_z, int64_t other_v) {
    if (other_z > z || (other_z == z && other_v < v)) {
      z = other_z;
      v = other_v;
    }
  }
};

// Over a block of kReduceThreads; the result is the first thread's.
__device__ __forceinline__ Best BlockBest(Best best) {
  __shared__ Best warps[kReduceThreads / 32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const float z = __shfl_xor_sync(0xffffffffu, best.z, offset);
    const auto v = __shfl_xor_sync(0xffffffffu, static_cast<long long>(best.v), offset);
    best.Take(z, v);
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < kReduceThreads / 32; ++i) best.Take(warps[i].z, warps[i].v);
  }
  return best;
}

__device__ void WriteIgnored(int64_t c, const LogitsSumsOut& out) {
  out.logsumexp[c] = out.logp[c] = 0;
  if (out.weighted_sum != nullptr) out.weighted_sum[c] = 0;
  if (out.entropy == nullptr) return;
  out.argmax[c] = 0;
  out.entropy[c] = out.log_sum_sq[c] = out.mean_logit[c] = out.is_top1[c] = 0;
}

__device__ void WriteStats(const Totals& t, double log_e, const Best& best, float at_target,
                           int64_t c, int64_t V, const LogitsSumsOut& out) {
  out.entropy[c] = static_cast<float>(log_e - t.weighted / t.e);
  out.log_sum_sq[c] = static_cast<float>(log(t.squares) - 2 * log_e);
  out.mean_logit[c] = static_cast<float>(t.z / static_cast<double>(V));
  out.is_top1[c] = at_target >= best.z ? 1.0f : 0.0f;
  // A row of nothing but NaN has no best.
  out.argmax[c] = best.v == LLONG_MAX ? 0 : best.v;
}

template <typename T, int VEC, bool kStats>
__global__ void __launch_bounds__(kReduceThreads)
    SumKernel(const T* __restrict__ logits, LogitsShape shape, LogitsMap map,
              const int64_t* __restrict__ target, LogitsSumsOut out) {
  const int64_t c = blockIdx.x;
  const int64_t y = target[c];
  if (y == shape.ignore_index) {
    if (threadIdx.x == 0) WriteIgnored(c, out);
    return;
  }
  const T* row = logits + c * shape.stride;
  const Mapping mapped(map);
  const bool weighs = out.weighted_sum != nullptr;
  Sums s;
  Best best;
  double weighted_sum = 0;
  for (int64_t v = int64_t{threadIdx.x} * VEC; v < shape.V; v += int64_t{kReduceThreads} * VEC) {
    float z[VEC];
    Unpack(Load<VEC>(row + v), z);
    if constexpr (kStats) {
#pragma unroll
      for (int j = 0; j < VEC; ++j) best.Take(z[j], v + j);
    }
#pragma unroll
    for (int j = 0; j < VEC; ++j) z[j] = mapped(z[j]);
    if (weighs) {
      float sum = 0;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        sum += map.class_weight == nullptr ? z[j] : map.class_weight[v + j] * z[j];
      }
      weighted_sum += sum;
    }
    Add<kStats, T>(z, s);
  }
  const Totals t = ReduceBlock<kStats>(s);
  if (weighs) {
    __shared__ double scratch[32];
    weighted_sum = BlockSum(weighted_sum, scratch);
  }
  if constexpr (kStats) best = BlockBest(best);
  if (threadIdx.x != 0) return;
  const double log_e = log(t.e), lse = t.max + log_e;
  const float at_target = y >= 0 && y < shape.V ? ToFloat(row[y]) : NAN;
  out.logsumexp[c] = lse;
  out.logp[c] = (double{mapped(at_target)} - t.max) - log_e;
  if (weighs) out.weighted_sum[c] = weighted_sum;
  if constexpr (kStats) WriteStats(t, log_e, best, at_target, c, shape.V, out);
}

template <typename T, int VEC>
__global__ void __launch_bounds__(kGradThreads)
    GradKernel(const T* logits, LogitsShape shape, LogitsMap map,
               const double* __restrict__ logsumexp, const int64_t* __restrict__ target,
               LogitsCoefficientsIn coefficients, int64_t out_stride, T* out) {
  const int64_t c = blockIdx.y;
  const int64_t y = target[c];
  const T* row = logits + c * shape.stride;
  T* out_row = out + c * out_stride;
  const bool ignored = y == shape.ignore_index;
  const ExpMinus<T> softmax(ignored ? 0 : logsumexp[c]);
  const float of_softmax = ignored ? 0 : coefficients.softmax[c];
  const float of_onehot = ignored ? 0 : coefficients.onehot[c];
  const float of_weight = ignored ? 0 : coefficients.smooth[c];
  const Mapping mapping(map);
  // Not read where its factor is 0.
  const float* weight = of_weight == 0 ? nullptr : map.class_weight;
  const int64_t begin = int64_t{blockIdx.x} * (kGradThreads * VEC * kGradPacks);
#pragma unroll
  for (int i = 0; i < kGradPacks; ++i) {
    const int64_t v = begin + (int64_t{i} * kGradThreads + threadIdx.x) * VEC;
    if (v >= shape.V) return;
    float dz[VEC] = {};
    if (!ignored) {
      float z[VEC];
      Unpack(Load<VEC>(row + v), z);
      const int hit = y >= v && y < v + VEC ? static_cast<int>(y - v) : -1;
#pragma unroll
      for (int j = 0; j < VEC; ++j) {
        const float mapped = mapping(z[j]);
        const float smooth = of_weight * (weight == nullptr ? 1.0f : weight[v + j]);
        const float rest = j == hit ? of_onehot + smooth : smooth;
        dz[j] = (of_softmax * softmax(mapped) - rest) * mapping.Derivative(mapped);
      }
    }
    Store<VEC>(out_row + v, Packed<T>(dz));
  }
}

}  // namespace

Error SumLogits(const Queue& queue, const LogitsShape& shape, const LogitsMap& map,
                const void* logits, const int64_t* target, const LogitsSumsOut& out) {
  if (shape.C == 0) return 0;
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto run = [&](auto vec, auto stats) {
      SumKernel<T, vec(), stats()>
          <<<GridOf(shape.C), kReduceThreads, 0, StreamOf(queue)>>>(
              static_cast<const T*>(logits), shape, map, target, out);
    };
    const auto with_stats = [&](auto vec) {
      if (out.entropy != nullptr) {
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

Error MixedLogitsGrad(const Queue& queue, const LogitsShape& shape, const LogitsMap& map,
                      const void* logits, const double* logsumexp, const int64_t* target,
                      const LogitsCoefficientsIn& k, int64_t out_stride, void* out) {
  if (shape.C == 0 || shape.V == 0) return 0;
  DispatchDtype(shape.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    const auto run = [&](auto vec) {
      constexpr int64_t kColumns = int64_t{kGradThreads} * vec() * kGradPacks;
      constexpr int64_t kMaxRows = 65535;
      for (int64_t c = 0; c < shape.C; c += kMaxRows) {
        const dim3 blocks(static_cast<unsigned>((shape.V + kColumns - 1) / kColumns),
                          static_cast<unsigned>(std::min(kMaxRows, shape.C - c)));
        const LogitsCoefficientsIn from_c{k.softmax + c, k.onehot + c, k.smooth + c};
        GradKernel<T, vec()><<<blocks, kGradThreads, 0, StreamOf(queue)>>>(
            static_cast<const T*>(logits) + c * shape.stride, shape, map, logsumexp + c, target + c,
            from_c, out_stride, static_cast<T*>(out) + c * out_stride);
      }
    };
    constexpr int kVec = kWide<T>;
    if (IsAligned(logits) && IsAligned(out) && shape.V % kVec == 0 && shape.stride % kVec == 0 &&
        out_stride % kVec == 0) {
      run(std::integral_constant<int, kVec>{});
    } else {
      run(std::integral_constant<int, 1>{});
    }
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
