#include <type_traits>

#include "kernels/common/device.cuh"
#include "kernels/common/gated_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Phi(z) and exp(-z^2 / 2) for outputs of 16 bits: Phi(-|z|) is that exponential times Mills'
// ratio, which is t P(t) of t = 1 / (1 + 0.3 |z|) within 1.5e-7 of itself for |z| up to 14 (P by
// iteratively reweighted least squares). With the exponential's own error it is off by 4e-6 of
// itself at most, also where 1 + erf would have no digit left.
struct CdfAndBell {
  float cdf, bell;
};
__device__ __forceinline__ CdfAndBell NormalCdf(float z) {
  constexpr float kHalfLog2e = 0.72134752044448170368f;
  float bell;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(bell) : "f"(-kHalfLog2e * z * z));
  const float t = __fdividef(1.0f, fmaf(0.3f, fabsf(z), 1.0f));
  float p = 3.567471106e-2f;
  p = fmaf(p, t, -1.572028128e-1f);
  p = fmaf(p, t, 2.063530303e-1f);
  p = fmaf(p, t, -5.368319733e-2f);
  p = fmaf(p, t, 1.285613862e-1f);
  p = fmaf(p, t, 9.991356598e-2f);
  p = fmaf(p, t, 1.207539441e-1f);
  p = fmaf(p, t, 1.196292996e-1f);
  const float tail = bell * (t * p);
  return {z > 0.0f ? 1.0f - tail : tail, bell};
}

// For T's gates and results.
template <Activation A, typename T>
__device__ __forceinline__ ValueAndSlope Activate(float z) {
  if constexpr (A == Activation::kSilu) {
    const float s = Sigmoid(z);
    return {z * s, s * (1.0f + z * (1.0f - s))};
  } else if constexpr (A == Activation::kGeluTanh) {
    // s = sigmoid(2 u), and 1 - s as e s: a difference would lose the digits of a small one. e
    // stays finite; a NaN comes through z.
    const float e = expf(fminf(-2.0f * kGeluA * (z + kGeluB * z * z * z), 80.0f));
    const float s = 1.0f / (1.0f + e);
    // Far below, s is as small as e allows, not 0; far above, z * du may be infinite. NaN stays.
    const float low = z < -30.0f ? -30.0f : z, c = low > 30.0f ? 30.0f : low;
    const float du = kGeluA * (1.0f + 3.0f * kGeluB * c * c);
    return {low * s, s + 2.0f * c * du * s * (e * s)};
  } else if constexpr (sizeof(T) == 2) {
    const auto [phi, bell] = NormalCdf(z);
    return {z * phi, phi + z * kInvSqrt2Pi * bell};
  } else {
    const float phi = normcdff(z);
    return {z * phi, phi + z * kInvSqrt2Pi * expf(-0.5f * z * z)};
  }
}

template <Activation A, typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(const T* gate, const T* up, int64_t n, T* y) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * VEC;
  if (i >= n) return;
  const Pack<T, VEC> g = Load<VEC>(gate + i), u = Load<VEC>(up + i);
  float gates[VEC], ups[VEC], out[VEC];
  Unpack(g, gates);
  Unpack(u, ups);
#pragma unroll
  for (int j = 0; j < VEC; ++j) out[j] = Activate<A, T>(gates[j]).value * ups[j];
  Store<VEC>(y + i, Packed<T>(out));
}

// WITH_Y: y, which may be dy, gets the forward pass's result.
template <Activation A, typename T, int VEC, bool WITH_Y>
__global__ void __launch_bounds__(kThreads)
    BackwardKernel(const T* dy, const T* gate, const T* up, int64_t n, T* dgate, T* dup, T* y) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * VEC;
  if (i >= n) return;
  const Pack<T, VEC> d = Load<VEC>(dy + i);
  const Pack<T, VEC> g = Load<VEC>(gate + i), u = Load<VEC>(up + i);
  float grads[VEC], gates[VEC], ups[VEC], out_gate[VEC], out_up[VEC], out_y[VEC];
  Unpack(d, grads);
  Unpack(g, gates);
  Unpack(u, ups);
#pragma unroll
  for (int j = 0; j < VEC; ++j) {
    const ValueAndSlope act = Activate<A, T>(gates[j]);
    out_gate[j] = grads[j] * ups[j] * act.slope;
    out_up[j] = grads[j] * act.value;
    out_y[j] = act.value * ups[j];
  }
  Store<VEC>(dgate + i, Packed<T>(out_gate));
  Store<VEC>(dup + i, Packed<T>(out_up));
  if constexpr (WITH_Y) Store<VEC>(y + i, Packed<T>(out_y));
}

// Calls f with the activation as a constant.
template <typename F>
void DispatchActivation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::kSilu:
      return f(std::integral_constant<Activation, Activation::kSilu>{});
    case Activation::kGelu:
      return f(std::integral_constant<Activation, Activation::kGelu>{});
    case Activation::kGeluTanh:
      return f(std::integral_constant<Activation, Activation::kGeluTanh>{});
  }
}

// Calls f(TypeTag<T>, VEC) with the widest loads that n and the pointers allow.
template <typename F>
void Dispatch(Dtype dtype, int64_t n, bool aligned, F&& f) {
  DispatchDtype(dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    if (aligned && n % kWide<T> == 0) {
      f(t, std::integral_constant<int, kWide<T>>{});
    } else {
      f(t, std::integral_constant<int, 1>{});
    }
  });
}

unsigned Blocks(int64_t n, int vec) {
  const int64_t elements = int64_t{kThreads} * vec;
  return GridOf((n + elements - 1) / elements);
}

}  // namespace

Error GatedForward(const Queue& queue, Activation activation, Dtype dtype, int64_t n,
                   const void* gate, const void* up, void* y) {
  if (n == 0) return 0;
  Dispatch(dtype, n, IsAligned(gate) && IsAligned(up) && IsAligned(y), [&](auto t, auto vec) {
    using T = typename decltype(t)::type;
    DispatchActivation(activation, [&](auto act) {
      ForwardKernel<act(), T, vec()><<<Blocks(n, vec()), kThreads, 0, StreamOf(queue)>>>(
          static_cast<const T*>(gate), static_cast<const T*>(up), n, static_cast<T*>(y));
    });
  });
  return LaunchError();
}

Error GatedBackward(const Queue& queue, Activation activation, Dtype dtype, int64_t n,
                    const void* dy, const void* gate, const void* up, void* dgate, void* dup,
                    void* y) {
  if (n == 0) return 0;
  const bool aligned = IsAligned(dy) && IsAligned(gate) && IsAligned(up) && IsAligned(dgate) &&
                       IsAligned(dup) && (y == nullptr || IsAligned(y));
  Dispatch(dtype, n, aligned, [&](auto t, auto vec) {
    using T = typename decltype(t)::type;
    DispatchActivation(activation, [&](auto act) {
      const auto kernel = y == nullptr ? BackwardKernel<act(), T, vec(), false>
                                       : BackwardKernel<act(), T, vec(), true>;
      kernel<<<Blocks(n, vec()), kThreads, 0, StreamOf(queue)>>>(
          static_cast<const T*>(dy), static_cast<const T*>(gate), static_cast<const T*>(up), n,
          static_cast<T*>(dgate), static_cast<T*>(dup), static_cast<T*>(y));
    });
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
