#ifndef LIGER_KERNELS_DIVERGENCE_DIVERGENCE_BASELINE_H_
#define LIGER_KERNELS_DIVERGENCE_DIVERGENCE_BASELINE_H_

#include "kernels/divergence/divergence.h"

namespace liger::kernels::baseline {

// Jsd without a note in the record of paths, for twins of other ops.
at::Tensor JsdUnrecorded(const at::Tensor& log_q_NV, const at::Tensor& log_p_NV,
                         const std::optional<at::Tensor>& label_N, const JsdOptions& options);

}  // namespace liger::kernels::baseline

#endif  // LIGER_KERNELS_DIVERGENCE_DIVERGENCE_BASELINE_H_
