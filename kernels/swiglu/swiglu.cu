#include "kernels/common/device.cuh"
#include "kernels/swiglu/swiglu_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(const T* gate, const T* up, int64_t n, T* y) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * VEC;
  if (i >= n) return;
  const Pack<T, VEC> g = LoadOnce<VEC>(gate + i), u = LoadOnce<VEC>(up + i);
  Pack<T, VEC> out;
#pragma unroll
  for (int j = 0; j < VEC; ++j) {
    const float z = ToFloat(g.v[j]);
    out.v[j] = FromFloat<T>(z * Sigmoid(z) * ToFloat(u.v[j]));
  }
  Store<VEC>(y + i, out);
}

template <typename T, int VEC>
__global__ void __launch_bounds__(kThreads)
    BackwardKernel(const T* dy, const T* gate, const T* up, int64_t n, T* dgate, T* dup) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * VEC;
  if (i >= n) return;
  const Pack<T, VEC> d = LoadOnce<VEC>(dy + i);
  const Pack<T, VEC> g = LoadOnce<VEC>(gate + i), u = LoadOnce<VEC>(up + i);
  Pack<T, VEC> out_gate, out_up;
#pragma unroll
  for (int j = 0; j < VEC; ++j) {
    const float z = ToFloat(g.v[j]), dj = ToFloat(d.v[j]), s = Sigmoid(z);
    out_gate.v[j] = FromFloat<T>(dj * ToFloat(u.v[j]) * s * (1.0f + z * (1.0f - s)));
    out_up.v[j] = FromFloat<T>(dj * z * s);
  }
  Store<VEC>(dgate + i, out_gate);
  Store<VEC>(dup + i, out_up);
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
  return static_cast<unsigned>((n + elements - 1) / elements);
}

}  // namespace

Error SwigluForward(const Queue& queue, Dtype dtype, int64_t n, const void* gate, const void* up,
                    void* y) {
  if (n == 0) return 0;
  Dispatch(dtype, n, IsAligned(gate) && IsAligned(up) && IsAligned(y), [&](auto t, auto vec) {
    using T = typename decltype(t)::type;
    ForwardKernel<T, vec()><<<Blocks(n, vec()), kThreads, 0, StreamOf(queue)>>>(
        static_cast<const T*>(gate), static_cast<const T*>(up), n, static_cast<T*>(y));
  });
  return LaunchError();
}

Error SwigluBackward(const Queue& queue, Dtype dtype, int64_t n, const void* dy, const void* gate,
                     const void* up, void* dgate, void* dup) {
  if (n == 0) return 0;
  const bool aligned =
      IsAligned(dy) && IsAligned(gate) && IsAligned(up) && IsAligned(dgate) && IsAligned(dup);
  Dispatch(dtype, n, aligned, [&](auto t, auto vec) {
    using T = typename decltype(t)::type;
    BackwardKernel<T, vec()><<<Blocks(n, vec()), kThreads, 0, StreamOf(queue)>>>(
        static_cast<const T*>(dy), static_cast<const T*>(gate), static_cast<const T*>(up), n,
        static_cast<T*>(dgate), static_cast<T*>(dup));
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
