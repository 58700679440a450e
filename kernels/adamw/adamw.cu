#include "kernels/adamw/adamw_launch.h"
#include "kernels/common/device.cuh"

namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// N elements from i on as they lie in memory, in 8 or 16 bytes. All tensors' are asked for before
// the first is converted, so that the loads wait for memory together.
template <int N>
__device__ __forceinline__ uint4 LoadAll(const void* p, Dtype dtype, int64_t i) {
  static_assert(N == 4 || N == 8);
  if (N == 4 && dtype == Dtype::kFloat) {
    return __ldcs(reinterpret_cast<const uint4*>(static_cast<const float*>(p) + i));
  }
  const uint16_t* const at = static_cast<const uint16_t*>(p) + i;
  if constexpr (N == 8) return __ldcs(reinterpret_cast<const uint4*>(at));
  const uint2 raw = __ldcs(reinterpret_cast<const uint2*>(at));
  return {raw.x, raw.y, 0, 0};
}

// One by one: those before n.
template <int N>
__device__ __forceinline__ uint4 LoadSome(const void* p, Dtype dtype, int64_t i, int64_t n) {
  uint4 raw = {};
  if (N == 4 && dtype == Dtype::kFloat) {
    auto* const to = reinterpret_cast<uint32_t*>(&raw);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (i + j < n) to[j] = static_cast<const uint32_t*>(p)[i + j];
    }
  } else {
    auto* const to = reinterpret_cast<uint16_t*>(&raw);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      if (i + j < n) to[j] = static_cast<const uint16_t*>(p)[i + j];
    }
  }
  return raw;
}

template <int N>
struct Values {
  float v[N];
};

template <int N, typename T>
__device__ __forceinline__ Values<N> ToValues(const uint4& raw) {
  Pack<T, N> pack;
  memcpy(&pack, &raw, sizeof(pack));
  Values<N> out;
  Unpack(pack, out.v);
  return out;
}

template <int N>
__device__ __forceinline__ Values<N> ToValues(const uint4& raw, Dtype dtype) {
  if (dtype == Dtype::kHalf) return ToValues<N, __half>(raw);
  if constexpr (N == 4) {
    if (dtype == Dtype::kFloat) return ToValues<N, float>(raw);
  }
  return ToValues<N, __nv_bfloat16>(raw);
}

template <typename T, int N>
__device__ __forceinline__ void Write(T* p, const Values<N>& in, int64_t i, int64_t n, bool whole) {
  if (whole) {
    Store<N>(p + i, Packed<T>(in.v));
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j) {
      if (i + j < n) p[i + j] = FromFloat<T>(in.v[j]);
    }
  }
}

template <int N>
__device__ __forceinline__ void Write(void* p, Dtype dtype, const Values<N>& in, int64_t i,
                                      int64_t n, bool whole) {
  if (dtype == Dtype::kHalf) return Write(static_cast<__half*>(p), in, i, n, whole);
  if constexpr (N == 4) {
    if (dtype == Dtype::kFloat) return Write(static_cast<float*>(p), in, i, n, whole);
  }
  Write(static_cast<__nv_bfloat16*>(p), in, i, n, whole);
}

// 32 random bits of a counter (PCG-RXS-M-XS: O'Neill 2014, HMC-CS-2014-0905).
__device__ __forceinline__ uint32_t RandomBits(uint32_t x) {
  x = x * 747796405u + 2891336453u;
  x = ((x >> ((x >> 28) + 4)) ^ x) * 277803737u;
  return (x >> 22) ^ x;
}

// A float32 whose lower half is zero: up or down with the probability that makes the mean exact.
__device__ __forceinline__ float RoundStochastically(float x, unsigned random16) {
  if (!isfinite(x)) return x;
  return __uint_as_float((__float_as_uint(x) + random16) & 0xffff0000u);
}

__device__ __forceinline__ bool IsAligned16(const void* p) {
  return reinterpret_cast<uint64_t>(p) % 16 == 0;
}

// What the memory of a tensor will hold.
template <int N>
__device__ __forceinline__ Values<N> Rounded(Values<N> in, Dtype dtype) {
  if (dtype == Dtype::kFloat) return in;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    in.v[j] = dtype == Dtype::kHalf ? ToFloat(FromFloat<__half>(in.v[j]))
                                    : ToFloat(FromFloat<__nv_bfloat16>(in.v[j]));
  }
  return in;
}

// Elements [begin, end) of a tensor, N a thread at once: 8 where all are of 16 bits, else 4.
template <int N>
__device__ __forceinline__ void Update(const AdamWTensor& t, int64_t begin, int64_t end,
                                       const AdamWConstants& constants, float grad_scale) {
  const AdamWScalars c = constants.scalars;
  const bool aligned = IsAligned16(t.param) && IsAligned16(t.compute) && IsAligned16(t.grad) &&
                       IsAligned16(t.exp_avg) && IsAligned16(t.exp_avg_sq);
  const bool random_param = constants.stochastic && t.param_dtype == Dtype::kBfloat16;
  const bool random_state = constants.stochastic && t.state_dtype == Dtype::kBfloat16;
  // Elements more than 2^32 apart, and the tensors and steps, have keys of their own.
  const uint32_t key =
      RandomBits(static_cast<uint32_t>(t.stream >> 32) ^
                 RandomBits(static_cast<uint32_t>(t.stream) ^ static_cast<uint32_t>(begin >> 32)));
  for (int64_t i = begin + int64_t{threadIdx.x} * N; i < end; i += kThreads * N) {
    const bool whole = aligned && i + N <= t.n;
    const auto load = [&](const void* p, Dtype dtype) {
      return whole ? LoadAll<N>(p, dtype, i) : LoadSome<N>(p, dtype, i, t.n);
    };
    const uint4 grad = load(t.grad, t.grad_dtype), exp_avg = load(t.exp_avg, t.state_dtype);
    const uint4 exp_avg_sq = load(t.exp_avg_sq, t.state_dtype);
    const uint4 param = load(t.param, t.param_dtype);
    const Values<N> g = ToValues<N>(grad, t.grad_dtype);
    Values<N> m = ToValues<N>(exp_avg, t.state_dtype), v = ToValues<N>(exp_avg_sq, t.state_dtype);
    Values<N> p = ToValues<N>(param, t.param_dtype);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float gj = g.v[j] * grad_scale;
      m.v[j] += c.one_minus_beta1 * (gj - m.v[j]);
      v.v[j] = c.beta2 * v.v[j] + c.one_minus_beta2 * gj * gj;
      const float denominator = sqrtf(v.v[j]) * c.inv_sqrt_bias2 + c.epsilon;
      p.v[j] = p.v[j] * t.decay - c.step_size * m.v[j] / denominator;
    }
    if (random_param || random_state) {
#pragma unroll
      for (int j = 0; j < N; ++j) {
        const uint32_t bits = RandomBits(static_cast<uint32_t>(i + j) ^ key);
        if (random_param) p.v[j] = RoundStochastically(p.v[j], bits & 0xffff);
        if (random_state) {
          m.v[j] = RoundStochastically(m.v[j], bits >> 16);
          v.v[j] = RoundStochastically(v.v[j], RandomBits(bits ^ key) >> 16);
        }
      }
    }
    Write<N>(t.exp_avg, t.state_dtype, m, i, t.n, whole);
    Write<N>(t.exp_avg_sq, t.state_dtype, v, i, t.n, whole);
    Write<N>(t.param, t.param_dtype, p, i, t.n, whole);
    if (t.compute != nullptr) {
      Write<N>(t.compute, t.compute_dtype, Rounded(p, t.param_dtype), i, t.n, whole);
    }
  }
}

__global__ void __launch_bounds__(kThreads, 4)
    StepKernel(const AdamWTensor* __restrict__ tensors, int count, AdamWConstants constants) {
  const float grad_scale = constants.grad_scale == nullptr ? 1.0f : *constants.grad_scale;
  if (!isfinite(grad_scale)) return;
  // The tensor of this chunk: the last one that does not begin after it.
  int low = 0, high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (tensors[middle].first_chunk <= blockIdx.x) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const AdamWTensor t = tensors[low];
  const int64_t begin = (int64_t{blockIdx.x} - t.first_chunk) * kAdamWChunk;
  const int64_t end = begin + kAdamWChunk < t.n ? begin + kAdamWChunk : t.n;
  const bool any_wide = t.param_dtype == Dtype::kFloat || t.grad_dtype == Dtype::kFloat ||
                        t.state_dtype == Dtype::kFloat ||
                        (t.compute != nullptr && t.compute_dtype == Dtype::kFloat);
  if (any_wide) {
    Update<4>(t, begin, end, constants, grad_scale);
  } else {
    Update<8>(t, begin, end, constants, grad_scale);
  }
}

}  // namespace

Error AdamWStep(const Queue& queue, const AdamWTensor* tensors, int count, int64_t chunks,
                const AdamWConstants& constants) {
  if (count == 0 || chunks == 0) return 0;
  StepKernel<<<GridOf(chunks), kThreads, 0, StreamOf(queue)>>>(tensors, count, constants);
  return LaunchError();
}

}  // namespace liger::kernels::cuda
