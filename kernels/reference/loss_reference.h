#ifndef LIGER_KERNELS_REFERENCE_LOSS_REFERENCE_H_
#define LIGER_KERNELS_REFERENCE_LOSS_REFERENCE_H_

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/divergence/divergence.h"
#include "kernels/reference/reference.h"

namespace liger::kernels::reference {

// outputs: loss, z_loss, logsumexp, entropy, argmax. class_weight is taken from the argument, not
// from the options; grad is shaped as the loss.
Result CrossEntropyWithOptions(const at::Tensor& logits_TV, const at::Tensor& target_T,
                               const at::Tensor& class_weight_V, const CrossEntropyOptions& options,
                               const at::Tensor& grad);

// One output: the loss. A label of kIgnoreIndex masks its row; grad is shaped as the loss.
Result KlDiv(const at::Tensor& log_q_NV, const at::Tensor& target_NV, const KlDivOptions& options,
             const at::Tensor& grad);
Result Jsd(const at::Tensor& log_q_NV, const at::Tensor& log_p_NV, const at::Tensor& label_N,
           double beta, const at::Tensor& grad);
Result Tvd(const at::Tensor& p_NV, const at::Tensor& q_NV, const at::Tensor& label_N,
           Reduction reduction, const at::Tensor& grad);

// grads: of the student's hidden states, its weight and its bias.
Result FusedLinearJsd(const at::Tensor& student_hidden_TH, const at::Tensor& student_weight_VH,
                      const at::Tensor& teacher_hidden_TK, const at::Tensor& teacher_weight_VK,
                      const at::Tensor& label, const at::Tensor& bias,
                      const at::Tensor& teacher_bias_T, double beta, double temperature,
                      const at::Tensor& grad);

}  // namespace liger::kernels::reference

#endif  // LIGER_KERNELS_REFERENCE_LOSS_REFERENCE_H_
