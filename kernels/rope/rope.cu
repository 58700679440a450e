#include <algorithm>

#include "kernels/common/device.cuh"
#include "kernels/rope/rope_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kMaxThreads = 256;

// N consecutive cosines or sines, in their own dtype until used: registers decide the speed. A
// float32 table beside 16-bit heads takes two loads.
template <typename C, int N>
struct Entries {
  static constexpr int kStep = N < kWide<C> ? N : kWide<C>;
  Pack<C, kStep> packs[N / kStep];

  __device__ explicit Entries(const C* p) {
#pragma unroll
    for (int i = 0; i < N / kStep; ++i) packs[i] = Load<kStep>(p + i * kStep);
  }
  __device__ float operator[](int j) const { return ToFloat(packs[j / kStep].v[j % kStep]); }
};

template <typename T>
struct Head {
  const T* x;
  T* y;
};

// Element d of head n of token t, counted through q's heads and then k's. Field by field:
// choosing between the two structs would put them into local memory.
template <typename T>
__device__ __forceinline__ Head<T> HeadOf(const RopeHeads& q, const RopeHeads& k, int64_t t,
                                          int64_t n, int64_t d) {
  const bool in_q = n < q.heads;
  const int64_t head = in_q ? n : n - q.heads;
  const void* x = in_q ? q.x : k.x;
  void* y = in_q ? q.y : k.y;
  const int64_t x_token = in_q ? q.x_token : k.x_token, x_head = in_q ? q.x_head : k.x_head;
  const int64_t y_token = in_q ? q.y_token : k.y_token, y_head = in_q ? q.y_head : k.y_head;
  return {static_cast<const T*>(x) + t * x_token + head * x_head + d,
          static_cast<T*>(y) + t * y_token + head * y_head + d};
}

// Heads that a thread rotates with one set of cosines and sines: all are loaded before the first
// is computed.
constexpr int kHeads = 2;

// A block takes blockDim.y tokens. Along x, its threads form lanes of VEC pairs of one head, for
// groups of kHeads heads of q and then of k.
template <typename T, typename C, int VEC>
__global__ void __launch_bounds__(kMaxThreads, sizeof(C) * VEC > 16 ? 2 : 3)
    RopeKernel(int64_t tokens, int64_t D, int64_t R, RopeHeads q, RopeHeads k,
               const C* __restrict__ cos, const C* __restrict__ sin, bool backward, int lanes) {
  const int64_t t = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (t >= tokens) return;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int group = static_cast<int>(threadIdx.x) / lanes;
  const int groups = static_cast<int>(blockDim.x) / lanes;
  const int64_t half = R / 2, heads = q.heads + k.heads;
  for (int64_t d = int64_t{lane} * VEC; d < half; d += int64_t{lanes} * VEC) {
    const Entries<C, VEC> c0(cos + t * R + d), c1(cos + t * R + half + d);
    const Entries<C, VEC> s0(sin + t * R + d), s1(sin + t * R + half + d);
    for (int64_t n0 = group; n0 < heads; n0 += int64_t{groups} * kHeads) {
      Pack<T, VEC> a[kHeads], b[kHeads];
#pragma unroll
      for (int i = 0; i < kHeads; ++i) {
        const int64_t n = n0 + int64_t{i} * groups;
        if (n >= heads) break;
        const T* x = HeadOf<T>(q, k, t, n, d).x;
        a[i] = LoadOnce<VEC>(x);
        b[i] = LoadOnce<VEC>(x + half);
      }
#pragma unroll
      for (int i = 0; i < kHeads; ++i) {
        const int64_t n = n0 + int64_t{i} * groups;
        if (n >= heads) break;
        Pack<T, VEC> first, second;
#pragma unroll
        for (int j = 0; j < VEC; ++j) {
          const float fa = ToFloat(a[i].v[j]), fb = ToFloat(b[i].v[j]);
          first.v[j] = FromFloat<T>(backward ? fa * c0[j] + fb * s1[j] : fa * c0[j] - fb * s0[j]);
          second.v[j] = FromFloat<T>(backward ? fb * c1[j] - fa * s0[j] : fb * c1[j] + fa * s1[j]);
        }
        T* y = HeadOf<T>(q, k, t, n, d).y;
        Store<VEC>(y, first);
        Store<VEC>(y + half, second);
      }
    }
  }
  if (R == D) return;
  // Elements that are not rotated.
  for (int64_t n = group; n < heads; n += groups) {
    const auto [x, y] = HeadOf<T>(q, k, t, n, 0);
    if (x == y) continue;
    for (int64_t d = R + lane; d < D; d += lanes) y[d] = x[d];
  }
}

bool Divides(int wide, const RopeHeads& side) {
  return IsAligned(side.x) && IsAligned(side.y) && side.x_token % wide == 0 &&
         side.x_head % wide == 0 && side.y_token % wide == 0 && side.y_head % wide == 0;
}

}  // namespace

Error Rope(const Queue& queue, Dtype dtype, Dtype table_dtype, int64_t T, int64_t D, int64_t R,
           const RopeHeads& q, const RopeHeads& k, const void* cos, const void* sin,
           bool backward) {
  if (T == 0 || q.heads + k.heads == 0) return 0;
  const int wide = dtype == Dtype::kFloat ? 4 : 8;
  const bool vectors = R / 2 % wide == 0 && Divides(wide, q) && Divides(wide, k) &&
                       IsAligned(cos) && IsAligned(sin);
  DispatchDtype(dtype, [&](auto t) {
    using E = typename decltype(t)::type;
    const auto run = [&](auto c, auto vec) {
      using C = typename decltype(c)::type;
      const int lanes =
          static_cast<int>(std::clamp<int64_t>((R / 2 + vec() - 1) / vec(), 1, kMaxThreads));
      const int64_t wanted = (q.heads + k.heads + kHeads - 1) / kHeads;
      const int groups = static_cast<int>(std::clamp<int64_t>(wanted, 1, kMaxThreads / lanes));
      const int per_block = std::max(1, kMaxThreads / (lanes * groups));
      const dim3 threads(static_cast<unsigned>(lanes * groups), static_cast<unsigned>(per_block));
      RopeKernel<E, C, vec()>
          <<<static_cast<unsigned>((T + per_block - 1) / per_block), threads, 0,
             StreamOf(queue)>>>(T, D, R, q, k, static_cast<const C*>(cos),
                                static_cast<const C*>(sin), backward, lanes);
    };
    const auto with_table = [&](auto c) {
      if (vectors) {
        run(c, std::integral_constant<int, kWide<E>>{});
      } else {
        run(c, std::integral_constant<int, 1>{});
      }
    };
    if (table_dtype == dtype) {
      with_table(t);
    } else {
      with_table(TypeTag<float>{});
    }
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
