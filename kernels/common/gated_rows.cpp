#include "kernels/common/gated_rows.h"

namespace liger::kernels {
namespace {

template <Activation A>
LIGER_INLINE ValueAndSlope Activate(float z) {
  if constexpr (A == Activation::kSilu) {
    const float s = Sigmoid(z);
    // Far below, s is the least that Exp allows, not 0. NaN stays.
    const float c = z < -100.0f ? -100.0f : z;
    return {c * s, s * (1.0f + c * (1.0f - s))};
  } else if constexpr (A == Activation::kGeluTanh) {
    // s = sigmoid(2 u), and 1 - s as e s: a difference would lose the digits of a small one.
    const float e = Exp(-2.0f * kGeluA * (z + kGeluB * z * z * z));
    const float s = 1.0f / (1.0f + e);
    // Far below, s is as small as e allows, not 0; far above, z * du may be infinite. NaN stays.
    const float low = z < -30.0f ? -30.0f : z, c = low > 30.0f ? 30.0f : low;
    const float du = kGeluA * (1.0f + 3.0f * kGeluB * c * c);
    return {low * s, s + 2.0f * c * du * s * (e * s)};
  } else {
    const CdfAndBell normal = NormalCdf(z);
    return {z * normal.cdf, normal.cdf + z * kInvSqrt2Pi * normal.bell};
  }
}

template <Activation A, typename T>
LIGER_INLINE void Forward(const T* gate, const T* up, int64_t n, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    y[i] = FromFloat<T>(Activate<A>(ToFloat(gate[i])).value * ToFloat(up[i]));
  }
}

template <Activation A, bool kWithY, typename T>
LIGER_INLINE void Backward(const T* dy, const T* gate, const T* up, int64_t n, T* dgate, T* dup,
                           T* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float d = ToFloat(dy[i]);
    const ValueAndSlope act = Activate<A>(ToFloat(gate[i]));
    dgate[i] = FromFloat<T>(d * ToFloat(up[i]) * act.slope);
    dup[i] = FromFloat<T>(d * act.value);
    if constexpr (kWithY) y[i] = FromFloat<T>(act.value * ToFloat(up[i]));
  }
}

template <typename T>
LIGER_INLINE void Forward(Activation activation, const T* gate, const T* up, int64_t n, T* y) {
  switch (activation) {
    case Activation::kSilu:
      return Forward<Activation::kSilu>(gate, up, n, y);
    case Activation::kGelu:
      return Forward<Activation::kGelu>(gate, up, n, y);
    case Activation::kGeluTanh:
      return Forward<Activation::kGeluTanh>(gate, up, n, y);
  }
}

template <Activation A, typename T>
LIGER_INLINE void Backward(const T* dy, const T* gate, const T* up, int64_t n, T* dgate, T* dup,
                           T* y) {
  return y == nullptr ? Backward<A, false>(dy, gate, up, n, dgate, dup, y)
                      : Backward<A, true>(dy, gate, up, n, dgate, dup, y);
}

template <typename T>
LIGER_INLINE void Backward(Activation activation, const T* dy, const T* gate, const T* up,
                           int64_t n, T* dgate, T* dup, T* y) {
  switch (activation) {
    case Activation::kSilu:
      return Backward<Activation::kSilu>(dy, gate, up, n, dgate, dup, y);
    case Activation::kGelu:
      return Backward<Activation::kGelu>(dy, gate, up, n, dgate, dup, y);
    case Activation::kGeluTanh:
      return Backward<Activation::kGeluTanh>(dy, gate, up, n, dgate, dup, y);
  }
}

}  // namespace

LIGER_VECTOR_CLONES void GatedSpan(Activation activation, const float* gate, const float* up,
                                   int64_t n, float* y) {
  Forward(activation, gate, up, n, y);
}
LIGER_VECTOR_CLONES void GatedSpan(Activation activation, const Bf16* gate, const Bf16* up,
                                   int64_t n, Bf16* y) {
  Forward(activation, gate, up, n, y);
}

LIGER_VECTOR_CLONES void GatedBackwardSpan(Activation activation, const float* dy,
                                           const float* gate, const float* up, int64_t n,
                                           float* dgate, float* dup, float* y) {
  Backward(activation, dy, gate, up, n, dgate, dup, y);
}
LIGER_VECTOR_CLONES void GatedBackwardSpan(Activation activation, const Bf16* dy, const Bf16* gate,
                                           const Bf16* up, int64_t n, Bf16* dgate, Bf16* dup,
                                           Bf16* y) {
  Backward(activation, dy, gate, up, n, dgate, dup, y);
}

}  // namespace liger::kernels
