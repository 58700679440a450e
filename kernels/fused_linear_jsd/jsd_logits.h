#ifndef LIGER_KERNELS_FUSED_LINEAR_JSD_JSD_LOGITS_H_
#define LIGER_KERNELS_FUSED_LINEAR_JSD_JSD_LOGITS_H_

#include <ATen/core/Tensor.h>

namespace liger::kernels {

// jsd of the softmax of two chunks of logits [C, V], contiguous, both divided by temperature.
// Writes row_loss [C], float64. Returns d row_loss / d student logits where it is needed: on a GPU
// in their place (on Hopper both rows are read once, and one is written once), else beside them in
// the compute dtype.
at::Tensor JsdOfLogits(at::Tensor& student_CV, const at::Tensor& teacher_CV, double beta,
                       double temperature, bool need_grad, const at::Tensor& row_loss_C);

}  // namespace liger::kernels

#endif  // LIGER_KERNELS_FUSED_LINEAR_JSD_JSD_LOGITS_H_
