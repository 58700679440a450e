#ifndef LIGER_KERNELS_REFERENCE_HEAD_OPTIONS_REFERENCE_H_
#define LIGER_KERNELS_REFERENCE_HEAD_OPTIONS_REFERENCE_H_

#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"
#include "kernels/reference/reference.h"

namespace liger::kernels::reference {

// outputs: logp, entropy, log_sum_sq, mean_logit, is_top1.
Result FusedLinearLogprobWithOptions(const at::Tensor& hidden_TH, const at::Tensor& weight_VH,
                                     const at::Tensor& target_T, const at::Tensor& bias_V,
                                     const FusedLinearLogprobOptions& options,
                                     const at::Tensor& grad_T);

// outputs: loss, entropy, is_top1. token_weight is taken from the argument, not from the options.
Result FusedLinearCrossEntropyWithOptions(const at::Tensor& hidden_TH, const at::Tensor& weight_VH,
                                          const at::Tensor& target_T, const at::Tensor& bias_V,
                                          const at::Tensor& token_weight_T,
                                          const FusedLinearCrossEntropyOptions& options,
                                          const at::Tensor& grad);

}  // namespace liger::kernels::reference

#endif  // LIGER_KERNELS_REFERENCE_HEAD_OPTIONS_REFERENCE_H_
