#include "kernels/adamw/adamw_launch.h"
#include "kernels/common/device.cuh"

namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = 256;
// Elements a thread updates at once: 16 bytes of 16-bit types, twice 16 of float32.
constexpr int kAtOnce = 8;

struct Values {
  float v[kAtOnce];
};

// Elements [i, i + kAtOnce) as float32. `whole`: all exist and are aligned.
template <typename T>
__device__ __forceinline__ Values Read(const T* p, int64_t i, int64_t n, bool whole) {
  Values out;
  if (whole) {
    constexpr int kStep = kAtOnce < kWide<T> ? kAtOnce : kWide<T>;
#pragma unroll
    for (int at = 0; at < kAtOnce; at += kStep) {
      const Pack<T, kStep> pack = LoadOnce<kStep>(p + i + at);
#pragma unroll
      for (int j = 0; j < kStep; ++j) out.v[at + j] = ToFloat(pack.v[j]);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) out.v[j] = i + j < n ? ToFloat(p[i + j]) : 0;
  }
  return out;
}

__device__ __forceinline__ Values Read(const void* p, Dtype dtype, int64_t i, int64_t n,
                                       bool whole) {
  switch (dtype) {
    case Dtype::kHalf:
      return Read(static_cast<const __half*>(p), i, n, whole);
    case Dtype::kBfloat16:
      return Read(static_cast<const __nv_bfloat16*>(p), i, n, whole);
    case Dtype::kFloat:
      break;
  }
  return Read(static_cast<const float*>(p), i, n, whole);
}

template <typename T>
__device__ __forceinline__ void Write(T* p, const Values& in, int64_t i, int64_t n, bool whole) {
  if (whole) {
    constexpr int kStep = kAtOnce < kWide<T> ? kAtOnce : kWide<T>;
#pragma unroll
    for (int at = 0; at < kAtOnce; at += kStep) {
      Pack<T, kStep> pack;
#pragma unroll
      for (int j = 0; j < kStep; ++j) pack.v[j] = FromFloat<T>(in.v[at + j]);
      Store<kStep>(p + i + at, pack);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (i + j < n) p[i + j] = FromFloat<T>(in.v[j]);
    }
  }
}

__device__ __forceinline__ void Write(void* p, Dtype dtype, const Values& in, int64_t i, int64_t n,
                                      bool whole) {
  switch (dtype) {
    case Dtype::kHalf:
      return Write(static_cast<__half*>(p), in, i, n, whole);
    case Dtype::kBfloat16:
      return Write(static_cast<__nv_bfloat16*>(p), in, i, n, whole);
    case Dtype::kFloat:
      break;
  }
  Write(static_cast<float*>(p), in, i, n, whole);
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

__global__ void __launch_bounds__(kThreads, 4)
    StepKernel(const AdamWTensor* __restrict__ tensors, int count, AdamWConstants constants) {
  const float grad_scale = constants.grad_scale == nullptr ? 1.0f : *constants.grad_scale;
  if (!isfinite(grad_scale)) return;
  const AdamWScalars c = constants.scalars;
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
  const auto aligned = [](const void* p) { return reinterpret_cast<uint64_t>(p) % 16 == 0; };
  const bool all_aligned = aligned(t.param) && aligned(t.compute) && aligned(t.grad) &&
                           aligned(t.exp_avg) && aligned(t.exp_avg_sq);
  const bool random_param = constants.stochastic && t.param_dtype == Dtype::kBfloat16;
  const bool random_state = constants.stochastic && t.state_dtype == Dtype::kBfloat16;
  // Elements more than 2^32 apart, and the tensors and steps, have keys of their own.
  const uint32_t key =
      RandomBits(static_cast<uint32_t>(t.stream >> 32) ^
                 RandomBits(static_cast<uint32_t>(t.stream) ^ static_cast<uint32_t>(begin >> 32)));
  for (int64_t i = begin + int64_t{threadIdx.x} * kAtOnce; i < end; i += kThreads * kAtOnce) {
    const bool whole = all_aligned && i + kAtOnce <= t.n;
    const Values g = Read(t.grad, t.grad_dtype, i, t.n, whole);
    Values m = Read(t.exp_avg, t.state_dtype, i, t.n, whole);
    Values v = Read(t.exp_avg_sq, t.state_dtype, i, t.n, whole);
    Values p = Read(t.param, t.param_dtype, i, t.n, whole);
    Values exact;
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const float gj = g.v[j] * grad_scale;
      m.v[j] += c.one_minus_beta1 * (gj - m.v[j]);
      v.v[j] = c.beta2 * v.v[j] + c.one_minus_beta2 * gj * gj;
      const float denominator = sqrtf(v.v[j]) * c.inv_sqrt_bias2 + c.epsilon;
      p.v[j] = p.v[j] * t.decay - c.step_size * m.v[j] / denominator;
      exact.v[j] = p.v[j];
      if (random_param || random_state) {
        const uint32_t bits = RandomBits(static_cast<uint32_t>(i + j) ^ key);
        if (random_param) p.v[j] = RoundStochastically(p.v[j], bits & 0xffff);
        if (random_state) {
          m.v[j] = RoundStochastically(m.v[j], bits >> 16);
          v.v[j] = RoundStochastically(v.v[j], RandomBits(bits ^ key) >> 16);
        }
      }
    }
    Write(t.exp_avg, t.state_dtype, m, i, t.n, whole);
    Write(t.exp_avg_sq, t.state_dtype, v, i, t.n, whole);
    Write(t.param, t.param_dtype, p, i, t.n, whole);
    if (t.compute != nullptr) Write(t.compute, t.compute_dtype, exact, i, t.n, whole);
  }
}

}  // namespace

Error AdamWStep(const Queue& queue, const AdamWTensor* tensors, int count, int64_t chunks,
                const AdamWConstants& constants) {
  if (count == 0 || chunks == 0) return 0;
  StepKernel<<<static_cast<unsigned>(chunks), kThreads, 0, StreamOf(queue)>>>(tensors, count,
                                                                              constants);
  return LaunchError();
}

}  // namespace liger::kernels::cuda
