#ifndef LIGER_KERNELS_FUSED_LINEAR_LOGPROB_FUSED_LINEAR_LOGPROB_IMPL_H_
#define LIGER_KERNELS_FUSED_LINEAR_LOGPROB_FUSED_LINEAR_LOGPROB_IMPL_H_

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "kernels/common/head_options.h"

namespace liger::kernels::fllp {

using OptionalTensor = std::optional<at::Tensor>;

// FusedLinearLogprobOptions that forward and backward share.
struct HeadOptions {
  int64_t ignore_index;
  OptionalTensor valid_rows_M;
  HeadMap map;
};

// logp, entropy, log_sum_sq, mean_logit, is_top1, then for backward logsumexp (float64)
// and unit_grad_hidden = (e_y - p) W; [0] where not asked for.
using ForwardResult =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
// grad_hidden, grad_weight, grad_bias.
using BackwardResult = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// Kernels of liger::fused_linear_logprob_forward, _backward and _backward_accumulate_.
ForwardResult Forward(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                      const OptionalTensor& bias, const HeadOptions& options, bool token_stats,
                      bool keep_unit_grad);
BackwardResult Backward(const at::Tensor& grad_logp, const at::Tensor& hidden,
                        const at::Tensor& weight, const at::Tensor& target,
                        const OptionalTensor& bias, const at::Tensor& logsumexp,
                        const HeadOptions& options, bool need_hidden, bool need_weight,
                        bool need_bias);
at::Tensor BackwardAccumulate(const at::Tensor& grad_logp, const at::Tensor& hidden,
                              const at::Tensor& weight, const at::Tensor& target,
                              const OptionalTensor& bias, const at::Tensor& logsumexp,
                              const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                              const HeadOptions& options, bool need_hidden,
                              bool grad_weight_is_new);

ForwardResult ForwardMeta(const at::Tensor& hidden, const at::Tensor& weight,
                          const at::Tensor& target, const OptionalTensor& bias,
                          const HeadOptions& options, bool token_stats, bool keep_unit_grad);
BackwardResult BackwardMeta(const at::Tensor& grad_logp, const at::Tensor& hidden,
                            const at::Tensor& weight, const at::Tensor& target,
                            const OptionalTensor& bias, const at::Tensor& logsumexp,
                            const HeadOptions& options, bool need_hidden, bool need_weight,
                            bool need_bias);
at::Tensor BackwardAccumulateMeta(const at::Tensor& grad_logp, const at::Tensor& hidden,
                                  const at::Tensor& weight, const at::Tensor& target,
                                  const OptionalTensor& bias, const at::Tensor& logsumexp,
                                  const OptionalTensor& grad_weight,
                                  const OptionalTensor& grad_bias, const HeadOptions& options,
                                  bool need_hidden, bool grad_weight_is_new);

}  // namespace liger::kernels::fllp

#endif  // LIGER_KERNELS_FUSED_LINEAR_LOGPROB_FUSED_LINEAR_LOGPROB_IMPL_H_
