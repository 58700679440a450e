#include <algorithm>

#include "kernels/common/device.cuh"
#include "kernels/rope/rope_launch.h"

namespace liger::kernels::cuda {
namespace {

constexpr int kMostThreads = 160;

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

// `parts` small blocks take a token; each thread VEC pairs of one head. What a token's heads share
// of the tables comes from the caches.
template <typename T, typename C, int VEC>
__global__ void __launch_bounds__(kMostThreads)
    RopeKernel(int64_t tokens, int D, RopeHeads q, RopeHeads k, RopeTables tables, bool backward,
               int lanes, int parts) {
  const int R = static_cast<int>(tables.R);
  const C* __restrict__ cos = static_cast<const C*>(tables.cos);
  const C* __restrict__ sin = static_cast<const C*>(tables.sin);
  const unsigned token = blockIdx.x / parts, part = blockIdx.x % parts;
  const int64_t t = token;
  const int half = R / 2;
  const int items = static_cast<int>(q.heads + k.heads) * lanes;
  const int item = static_cast<int>(part * blockDim.x + threadIdx.x);
  if (item < items) {
    const int d = item % lanes * VEC;
    const auto [x, y] = HeadOf<T>(q, k, t, item / lanes, d);
    const Pack<T, VEC> a = Load<VEC>(x), b = Load<VEC>(x + half);
    const int axis = (d >= tables.first_end) + (d >= tables.second_end);
    const int64_t entry = (axis * tokens + t) * R + d;
    const C* c = cos + entry;
    const C* s = sin + entry;
    const Entries<C, VEC> c0(c), c1(c + half), s0(s), s1(s + half);
    float fa[VEC], fb[VEC], first[VEC], second[VEC];
    Unpack(a, fa);
    Unpack(b, fb);
#pragma unroll
    for (int j = 0; j < VEC; ++j) {
      first[j] = backward ? fa[j] * c0[j] + fb[j] * s1[j] : fa[j] * c0[j] - fb[j] * s0[j];
      second[j] = backward ? fb[j] * c1[j] - fa[j] * s0[j] : fb[j] * c1[j] + fa[j] * s1[j];
    }
    Store<VEC>(y, Packed<T>(first));
    Store<VEC>(y + half, Packed<T>(second));
  }
  if (R == D || part != 0) return;
  // Elements that are not rotated.
  for (int64_t n = 0; n < q.heads + k.heads; ++n) {
    const auto [x, y] = HeadOf<T>(q, k, t, n, 0);
    if (x == y) continue;
    for (int d = R + static_cast<int>(threadIdx.x); d < D; d += blockDim.x) y[d] = x[d];
  }
}

bool Divides(int wide, const RopeHeads& side) {
  return IsAligned(side.x) && IsAligned(side.y) && side.x_token % wide == 0 &&
         side.x_head % wide == 0 && side.y_token % wide == 0 && side.y_head % wide == 0;
}

}  // namespace

Error Rope(const Queue& queue, Dtype dtype, int64_t T, int64_t D, const RopeHeads& q,
           const RopeHeads& k, const RopeTables& tables, bool backward) {
  if (T == 0 || q.heads + k.heads == 0) return 0;
  const int wide = dtype == Dtype::kFloat ? 4 : 8;
  const int64_t R = tables.R;
  // No thread's pairs lie across the end of a section.
  const bool vectors = R / 2 % wide == 0 && tables.first_end % wide == 0 &&
                       tables.second_end % wide == 0 && Divides(wide, q) && Divides(wide, k) &&
                       IsAligned(tables.cos) && IsAligned(tables.sin);
  DispatchDtype(dtype, [&](auto t) {
    using E = typename decltype(t)::type;
    const auto run = [&](auto c, auto vec) {
      using C = typename decltype(c)::type;
      const int lanes = static_cast<int>(R / 2 / vec());
      const int64_t items = (q.heads + k.heads) * lanes;
      const int64_t parts = std::max<int64_t>(1, (items + kMostThreads - 1) / kMostThreads);
      const int64_t each = (items + parts - 1) / parts;
      const auto threads = static_cast<unsigned>(std::max<int64_t>(32, (each + 31) / 32 * 32));
      RopeKernel<E, C, vec()><<<GridOf(T * parts), threads, 0, StreamOf(queue)>>>(
          T, static_cast<int>(D), q, k, tables, backward, lanes, static_cast<int>(parts));
    };
    const auto with_table = [&](auto c) {
      if (vectors) {
        run(c, std::integral_constant<int, kWide<E>>{});
      } else {
        run(c, std::integral_constant<int, 1>{});
      }
    };
    if (tables.dtype == dtype) {
      with_table(t);
    } else {
      with_table(TypeTag<float>{});
    }
  });
  return LaunchError();
}

}  // namespace liger::kernels::cuda
