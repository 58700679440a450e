#ifndef LIGER_KERNELS_SWIGLU_SWIGLU_ROWS_H_
#define LIGER_KERNELS_SWIGLU_SWIGLU_ROWS_H_

#include <cstdint>

#include "kernels/common/vector.h"

namespace liger::kernels {

// y = silu(gate) * up over n elements.
void SwigluSpan(const float* gate, const float* up, int64_t n, float* y);
void SwigluSpan(const Bf16* gate, const Bf16* up, int64_t n, Bf16* y);

// With s = sigmoid(gate): dup = dy gate s;  dgate = dy up s (1 + gate (1 - s)).
void SwigluBackwardSpan(const float* dy, const float* gate, const float* up, int64_t n,
                        float* dgate, float* dup);
void SwigluBackwardSpan(const Bf16* dy, const Bf16* gate, const Bf16* up, int64_t n, Bf16* dgate,
                        Bf16* dup);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_SWIGLU_SWIGLU_ROWS_H_
