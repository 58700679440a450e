#ifndef LIGER_KERNELS_COMMON_GATED_ROWS_H_
#define LIGER_KERNELS_COMMON_GATED_ROWS_H_

#include <cstdint>

#include "kernels/common/activation.h"
#include "kernels/common/vector.h"

namespace liger::kernels {

// y = act(gate) * up over n elements.
void GatedSpan(Activation activation, const float* gate, const float* up, int64_t n, float* y);
void GatedSpan(Activation activation, const Bf16* gate, const Bf16* up, int64_t n, Bf16* y);

// dup = dy act(gate);  dgate = dy up act'(gate). y, unless null: act(gate) * up; it may be dy.
void GatedBackwardSpan(Activation activation, const float* dy, const float* gate, const float* up,
                       int64_t n, float* dgate, float* dup, float* y = nullptr);
void GatedBackwardSpan(Activation activation, const Bf16* dy, const Bf16* gate, const Bf16* up,
                       int64_t n, Bf16* dgate, Bf16* dup, Bf16* y = nullptr);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_COMMON_GATED_ROWS_H_
