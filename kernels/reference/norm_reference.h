#ifndef LIGER_KERNELS_REFERENCE_NORM_REFERENCE_H_
#define LIGER_KERNELS_REFERENCE_NORM_REFERENCE_H_

#include "kernels/reference/reference.h"

// As reference.h: plain loops over float64.
namespace liger::kernels::reference {

Result Geglu(const at::Tensor& gate, const at::Tensor& up, bool tanh, const at::Tensor& grad);

// outputs: y, sum.
Result FusedAddRmsNorm(const at::Tensor& x_TH, const at::Tensor& residual_TH,
                       const at::Tensor& weight_H, double eps, double offset,
                       const at::Tensor& grad_y_TH, const at::Tensor& grad_sum_TH);

// bias may be undefined: then grads has no gradient of it.
Result LayerNorm(const at::Tensor& x_TH, const at::Tensor& weight_H, const at::Tensor& bias_H,
                 double eps, const at::Tensor& grad_TH);

// x [N, C, ...]; bias as above.
Result GroupNorm(const at::Tensor& x_NCx, int64_t num_groups, const at::Tensor& weight_C,
                 const at::Tensor& bias_C, double eps, const at::Tensor& grad);

Result Softmax(const at::Tensor& x_TH, const at::Tensor& grad_TH);

// alpha [1]; beta may be undefined.
Result Dyt(const at::Tensor& x_TH, const at::Tensor& alpha, const at::Tensor& gamma_H,
           const at::Tensor& beta_H, const at::Tensor& grad_TH);

// grads: of the weight alone.
Result Embedding(const at::Tensor& ids_T, const at::Tensor& weight_VH, const at::Tensor& grad_TH);

}  // namespace liger::kernels::reference

#endif  // LIGER_KERNELS_REFERENCE_NORM_REFERENCE_H_
