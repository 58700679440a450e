#ifndef LIGER_KERNELS_COMMON_DEVICE_CUH_
#define LIGER_KERNELS_COMMON_DEVICE_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/common/launch.h"

// Pieces that kernels share: wide loads, conversions, reductions, dispatch by dtype.
namespace liger::kernels::cuda {

// N consecutive elements, loaded and stored at once.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

// Elements of a 16 byte load.
template <typename T>
inline constexpr int kWide = 16 / sizeof(T);

// The integers as which a pack of so many bytes travels: a copy of the struct itself goes
// element by element where T is a class, as CUDA's 16-bit floats are.
template <int BYTES>
struct Raw;
template <>
struct Raw<2> {
  using type = unsigned short;
};
template <>
struct Raw<4> {
  using type = unsigned;
};
template <>
struct Raw<8> {
  using type = uint2;
};
template <>
struct Raw<16> {
  using type = uint4;
};
struct TwoLoads {
  uint4 a, b;
};
template <>
struct Raw<32> {
  using type = TwoLoads;
};
template <typename P>
using RawOf = typename Raw<sizeof(P)>::type;

template <typename P>
__device__ __forceinline__ P FromRaw(RawOf<P> raw) {
  P pack;
  memcpy(&pack, &raw, sizeof(P));
  return pack;
}

// Without a hint for the caches, also of what is read once: evict-first loads (ld.global.cs) are 3
// to 5 % slower on an H200.
template <int N, typename T>
__device__ __forceinline__ Pack<T, N> Load(const T* p) {
  using P = Pack<T, N>;
  return FromRaw<P>(*reinterpret_cast<const RawOf<P>*>(p));
}
template <int N, typename T>
__device__ __forceinline__ void Store(T* p, const Pack<T, N>& pack) {
  RawOf<Pack<T, N>> raw;
  memcpy(&raw, &pack, sizeof(pack));
  if constexpr (sizeof(raw) == 16) {
    // As one instruction whatever the optimiser would make of the pieces.
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(__cvta_generic_to_global(p)), "r"(raw.x), "r"(raw.y), "r"(raw.z), "r"(raw.w)
                 : "memory");
  } else {
    *reinterpret_cast<RawOf<Pack<T, N>>*>(p) = raw;
  }
}

__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(__half x) { return __half2float(x); }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ __forceinline__ T FromFloat(float x);
template <>
__device__ __forceinline__ float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __half FromFloat<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// A pack as float32 and back, two 16-bit values at a time.
template <typename T, int N>
__device__ __forceinline__ void Unpack(const Pack<T, N>& pack, float (&out)[N]) {
  if constexpr (std::is_same_v<T, __nv_bfloat16> && N % 2 == 0) {
    uint32_t words[N / 2];
    memcpy(words, &pack, sizeof(pack));
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      out[2 * i] = __uint_as_float(words[i] << 16);
      out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) out[i] = ToFloat(pack.v[i]);
  }
}

template <typename T, int N>
__device__ __forceinline__ Pack<T, N> Packed(const float (&in)[N]) {
  Pack<T, N> pack;
  if constexpr (std::is_same_v<T, __nv_bfloat16> && N % 2 == 0) {
    __nv_bfloat162 pairs[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) pairs[i] = __floats2bfloat162_rn(in[2 * i], in[2 * i + 1]);
    memcpy(&pack, pairs, sizeof(pack));
  } else if constexpr (std::is_same_v<T, __half> && N % 2 == 0) {
    __half2 pairs[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) pairs[i] = __floats2half2_rn(in[2 * i], in[2 * i + 1]);
    memcpy(&pack, pairs, sizeof(pack));
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) pack.v[i] = FromFloat<T>(in[i]);
  }
  return pack;
}

template <typename T>
__device__ __forceinline__ float RoundTo(float x) {
  return ToFloat(FromFloat<T>(x));
}

__device__ __forceinline__ float Sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <typename V>
__device__ __forceinline__ V WarpSum(V v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}

// Sum over the threads of a block of kThreads, in every thread. `scratch` holds 32 values;
// calls that follow each other need different ones.
template <typename V>
__device__ __forceinline__ V BlockSum(V v, V* scratch) {
  v = WarpSum(v);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warps = (static_cast<int>(blockDim.x) + 31) / 32;
  if (warps == 1) return v;
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  return WarpSum(lane < warps ? scratch[lane] : V(0));
}

// A grid of so many blocks. What does not fit is not cut off: the launch fails.
inline unsigned GridOf(int64_t blocks) {
  return static_cast<unsigned>(std::min<int64_t>(blocks, UINT32_MAX));
}

inline bool IsAligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <typename T>
struct TypeTag {
  using type = T;
};

// Calls f(TypeTag<T>{}) with the CUDA type of `dtype`.
template <typename F>
auto DispatchDtype(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::kHalf:
      return f(TypeTag<__half>{});
    case Dtype::kBfloat16:
      return f(TypeTag<__nv_bfloat16>{});
    case Dtype::kFloat:
      break;
  }
  return f(TypeTag<float>{});
}

inline cudaStream_t StreamOf(const Queue& queue) { return static_cast<cudaStream_t>(queue.stream); }

inline Error LaunchError() { return static_cast<Error>(cudaGetLastError()); }

}  // namespace liger::kernels::cuda

#endif  // LIGER_KERNELS_COMMON_DEVICE_CUH_
