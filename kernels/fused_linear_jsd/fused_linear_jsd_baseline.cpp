#include <ATen/ATen.h>

#include "kernels/common/cpu.h"
#include "kernels/common/record.h"
#include "kernels/divergence/divergence_baseline.h"
#include "kernels/fused_linear_jsd/fused_linear_jsd.h"

namespace liger::kernels::baseline {

at::Tensor FusedLinearJsd(const at::Tensor& student_hidden, const at::Tensor& student_weight,
                          const at::Tensor& teacher_hidden, const at::Tensor& teacher_weight,
                          const std::optional<at::Tensor>& label,
                          const FusedLinearJsdOptions& options) {
  RecordPath(Op::kFusedLinearJsd, Path::kBaseline);
  const auto log_probs = [&](const at::Tensor& hidden, const at::Tensor& weight,
                             const std::optional<at::Tensor>& bias) {
    const at::Tensor logits = at::linear(hidden, weight, bias).to(ComputeDtype(hidden));
    return at::log_softmax(logits / options.temperature, -1);
  };
  const at::Tensor log_p =
      log_probs(teacher_hidden, teacher_weight, options.teacher_bias_V).detach();
  return JsdUnrecorded(log_probs(student_hidden, student_weight, options.student_bias_V), log_p,
                       label, {.beta = options.beta, .ignore_index = options.ignore_index});
}

}  // namespace liger::kernels::baseline
