#ifndef LIGER_KERNELS_COMMON_VECTOR_H_
#define LIGER_KERNELS_COMMON_VECTOR_H_

#include <bit>
#include <cstdint>

// Scalar pieces of loops that the compiler vectorises. No torch headers, no library calls:
// everything here is inlined into clones for several instruction sets.

// Marks a function to be compiled once for each of these instruction sets and resolved by the
// dynamic loader to the best one of this machine. Sanitizers cannot run in such resolvers,
// and clang has no clones by micro-architecture level.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define LIGER_VECTOR_CLONES \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define LIGER_VECTOR_CLONES
#endif
#define LIGER_INLINE inline __attribute__((always_inline))

namespace liger::kernels {

// The bits of a bfloat16; layout-compatible with c10::BFloat16.
struct Bf16 {
  uint16_t bits;
};

LIGER_INLINE float ToFloat(float x) { return x; }
LIGER_INLINE float ToFloat(Bf16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

template <typename T>
LIGER_INLINE T FromFloat(float x);
template <>
LIGER_INLINE float FromFloat<float>(float x) {
  return x;
}
// Round to nearest even; NaN stays NaN.
template <>
LIGER_INLINE Bf16 FromFloat<Bf16>(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return Bf16{static_cast<uint16_t>(x != x ? 0x7fc0u : rounded)};
}

template <typename T>
LIGER_INLINE float RoundTo(float x) {
  return ToFloat(FromFloat<T>(x));
}

// exp(x) within 1.2 ulp for x in [-87.3, 88.3], 0 below, clamped above; NaN stays NaN.
// Cody-Waite reduction by n = round(x / ln 2), then a degree 6 minimax polynomial on
// [-ln2/2, ln2/2]. Without branches, so that it vectorises.
LIGER_INLINE float Exp(float x) {
  constexpr float kLog2e = 1.44269504088896341f;
  constexpr float kLn2Hi = 0.693359375f;  // 9 bits: n * kLn2Hi is exact
  constexpr float kLn2Lo = -2.12194440e-4f;
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float clamped = x < -87.3f ? -87.3f : (x > 88.3f ? 88.3f : x);
  const float shifted = clamped * kLog2e + kMagic;
  const float n = shifted - kMagic;
  float r = clamped - n * kLn2Hi;
  r = r - n * kLn2Lo;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const uint32_t exponent = (std::bit_cast<uint32_t>(shifted) + 127u) << 23;
  const float y = p * std::bit_cast<float>(exponent);
  return x < -87.3f ? 0.0f : y;
}

// The normal distribution's Phi(x) and exp(-x^2 / 2).
struct CdfAndBell {
  float cdf, bell;
};

// Within 5e-7 and 2e-7 of themselves, also where 1 + erf would have no digit left: beyond 1,
// Phi(-|x|) is the bell times Mills' ratio, a rational function of |x| within 4e-8 of it up to 14,
// where both are 0. Below 1, half and an odd polynomial. (Both by iteratively reweighted least
// squares.)
LIGER_INLINE CdfAndBell NormalCdf(float x) {
  const float magnitude = x < 0.0f ? -x : x;
  const float a = magnitude > 14.0f ? 14.0f : magnitude;
  const float square = a * a;
  // What the square has been rounded off, from halves whose products are exact: the exponential
  // would make it up to 70 of its own roundings.
  const float high = std::bit_cast<float>(std::bit_cast<uint32_t>(a) & 0xfffff000u);
  const float rest = (high * high - square) + (a - high) * (a + high);
  const float rounded = Exp(-0.5f * square);
  const float bell = rounded - 0.5f * rest * rounded;
  float p = 2.391823597e-2f;
  p = p * a + 1.421155214e-1f;
  p = p * a + 3.974970871e-1f;
  p = p * a + 4.998235837e-1f;
  float q = 5.995587417e-2f;
  q = q * a + 3.561484469e-1f;
  q = q * a + 1.057962652f;
  q = q * a + 1.591080790f;
  q = q * a + 1.0f;
  const float tail = bell * (p / q);
  float near = -7.654204115e-6f;
  near = near * square + 1.134863613e-4f;
  near = near * square - 1.186329932e-3f;
  near = near * square + 9.973323406e-3f;
  near = near * square - 6.649035992e-2f;
  near = near * square + 3.989422801e-1f;
  const float far = x < 0.0f ? tail : 1.0f - tail;
  return {magnitude < 1.0f ? 0.5f + x * near : far, bell};
}

// tanh(x) within 2 ulp; NaN stays NaN. Cephes' tanhf: an odd polynomial near 0, where the other
// form would cancel.
LIGER_INLINE float Tanh(float x) {
  const float a = x < 0.0f ? -x : x;
  const float x2 = x * x;
  float p = -5.70498872745e-3f;
  p = p * x2 + 2.06390887954e-2f;
  p = p * x2 - 5.37397155531e-2f;
  p = p * x2 + 1.33314422036e-1f;
  p = p * x2 - 3.33332819422e-1f;
  const float near_zero = x + x * x2 * p;
  const float magnitude = 1.0f - 2.0f / (Exp(2.0f * a) + 1.0f);
  const float far = x < 0.0f ? -magnitude : magnitude;
  return a < 0.625f ? near_zero : far;
}

LIGER_INLINE float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_VECTOR_H_
