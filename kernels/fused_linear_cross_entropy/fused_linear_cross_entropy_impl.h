#ifndef LIGER_KERNELS_FUSED_LINEAR_CROSS_ENTROPY_FUSED_LINEAR_CROSS_ENTROPY_IMPL_H_
#define LIGER_KERNELS_FUSED_LINEAR_CROSS_ENTROPY_FUSED_LINEAR_CROSS_ENTROPY_IMPL_H_

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

#include "kernels/common/head_options.h"

namespace liger::kernels::flce {

using OptionalTensor = std::optional<at::Tensor>;

// FusedLinearCrossEntropyOptions but for the buffers.
struct LossOptions {
  double scale;
  int64_t ignore_index;
  bool token_stats;
  OptionalTensor token_weight_T, valid_rows_M;
  HeadMap map;
  double label_smoothing, lse_square_scale;

  bool plain() const { return map.identity() && label_smoothing == 0 && lse_square_scale == 0; }
};

// loss, entropy_T, is_top1_T, grad_hidden, grad_weight, grad_bias; [0] where not asked for.
using ForwardResult =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
// loss, entropy_T, is_top1_T, grad_hidden.
using AccumulateResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// Kernels of liger::fused_linear_cross_entropy_forward and _accumulate_.
ForwardResult Forward(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
                      const OptionalTensor& bias, const LossOptions& options, bool need_hidden,
                      bool need_weight, bool need_bias);
AccumulateResult Accumulate(const at::Tensor& hidden, const at::Tensor& weight,
                            const at::Tensor& target, const OptionalTensor& bias,
                            const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                            const LossOptions& options, bool need_hidden,
                            bool grad_weight_is_new);

ForwardResult ForwardMeta(const at::Tensor& hidden, const at::Tensor& weight,
                          const at::Tensor& target, const OptionalTensor& bias,
                          const LossOptions& options, bool need_hidden, bool need_weight,
                          bool need_bias);
AccumulateResult AccumulateMeta(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& target, const OptionalTensor& bias,
                                const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                                const LossOptions& options, bool need_hidden,
                                bool grad_weight_is_new);

}  // namespace liger::kernels::flce

#endif  // LIGER_KERNELS_FUSED_LINEAR_CROSS_ENTROPY_FUSED_LINEAR_CROSS_ENTROPY_IMPL_H_
