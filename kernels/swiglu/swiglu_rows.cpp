#include "kernels/swiglu/swiglu_rows.h"

namespace liger::kernels {
namespace {

template <typename T>
LIGER_INLINE void Forward(const T* gate, const T* up, int64_t n, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = ToFloat(gate[i]);
    y[i] = FromFloat<T>(g * Sigmoid(g) * ToFloat(up[i]));
  }
}

template <typename T>
LIGER_INLINE void Backward(const T* dy, const T* gate, const T* up, int64_t n, T* dgate, T* dup) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = ToFloat(gate[i]);
    const float d = ToFloat(dy[i]);
    const float s = Sigmoid(g);
    dgate[i] = FromFloat<T>(d * ToFloat(up[i]) * s * (1.0f + g * (1.0f - s)));
    dup[i] = FromFloat<T>(d * g * s);
  }
}

}  // namespace

LIGER_VECTOR_CLONES void SwigluSpan(const float* gate, const float* up, int64_t n, float* y) {
  Forward(gate, up, n, y);
}
LIGER_VECTOR_CLONES void SwigluSpan(const Bf16* gate, const Bf16* up, int64_t n, Bf16* y) {
  Forward(gate, up, n, y);
}

LIGER_VECTOR_CLONES void SwigluBackwardSpan(const float* dy, const float* gate, const float* up,
                                            int64_t n, float* dgate, float* dup) {
  Backward(dy, gate, up, n, dgate, dup);
}
LIGER_VECTOR_CLONES void SwigluBackwardSpan(const Bf16* dy, const Bf16* gate, const Bf16* up,
                                            int64_t n, Bf16* dgate, Bf16* dup) {
  Backward(dy, gate, up, n, dgate, dup);
}

}  // namespace liger::kernels
