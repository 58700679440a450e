#ifndef LIGER_KERNELS_FUSED_LINEAR_JSD_FUSED_LINEAR_JSD_IMPL_H_
#define LIGER_KERNELS_FUSED_LINEAR_JSD_FUSED_LINEAR_JSD_IMPL_H_

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace liger::kernels::fljsd {

using OptionalTensor = std::optional<at::Tensor>;

// The tensors of the loss.
struct Heads {
  at::Tensor student_hidden_TH, student_weight_VH, teacher_hidden_TK, teacher_weight_VK;
  OptionalTensor label_T, student_bias_V, teacher_bias_V;
};

// FusedLinearJsdOptions but for tensors.
struct LossOptions {
  double beta, temperature;
  int64_t ignore_index;
};

// loss, grad_hidden, grad_weight, grad_bias (float32, but for the hidden's on a CPU); [0] where not
// needed.
using ForwardResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
// loss, grad_hidden.
using AccumulateResult = std::tuple<at::Tensor, at::Tensor>;

// Kernels of liger::fused_linear_jsd_forward and _accumulate_.
ForwardResult Forward(const Heads& heads, const LossOptions& options, bool need_hidden,
                      bool need_weight, bool need_bias);
AccumulateResult Accumulate(const Heads& heads, const LossOptions& options,
                            const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                            bool need_hidden, bool grad_weight_is_new);

ForwardResult ForwardMeta(const Heads& heads, const LossOptions& options, bool need_hidden,
                          bool need_weight, bool need_bias);
AccumulateResult AccumulateMeta(const Heads& heads, const LossOptions& options,
                                const OptionalTensor& grad_weight, const OptionalTensor& grad_bias,
                                bool need_hidden, bool grad_weight_is_new);

}  // namespace liger::kernels::fljsd

#endif  // LIGER_KERNELS_FUSED_LINEAR_JSD_FUSED_LINEAR_JSD_IMPL_H_
