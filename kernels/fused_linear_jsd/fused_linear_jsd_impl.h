#ifndef LIGER_KERNELS_FUSED_LINEAR_JSD_FUSED_LINEAR_JSD_IMPL_H_
#define LIGER_KERNELS_FUSED_LINEAR_JSD_FUSED_LINEAR_JSD_IMPL_H_

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace liger::kernels::fljsd {

using OptionalTensor = std::optional<at::Tensor>;
// loss, grad_hidden, grad_weight (float32, but for the hidden's on a CPU); [0] where not needed.
using ForwardResult = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// Kernels of liger::fused_linear_jsd_forward.
ForwardResult Forward(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                      const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                      const OptionalTensor& label, double beta, double temperature,
                      int64_t ignore_index, bool need_hidden, bool need_weight);
ForwardResult ForwardMeta(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                          const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                          const OptionalTensor& label, double beta, double temperature,
                          int64_t ignore_index, bool need_hidden, bool need_weight);

}  // namespace liger::kernels::fljsd

#endif  // LIGER_KERNELS_FUSED_LINEAR_JSD_FUSED_LINEAR_JSD_IMPL_H_
