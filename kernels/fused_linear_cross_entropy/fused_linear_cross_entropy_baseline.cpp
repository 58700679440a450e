#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"

namespace liger::kernels::baseline {

FusedLinearCrossEntropyOutput FusedLinearCrossEntropy(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
    const std::optional<at::Tensor>& bias, const FusedLinearCrossEntropyOptions& options) {
  RecordPath(Op::kFusedLinearCrossEntropy, Path::kBaseline);
  const at::Tensor head = at::linear(hidden, weight, bias);
  const at::Tensor logits = head.scalar_type() == at::kDouble ? head : head.to(at::kFloat);
  FusedLinearCrossEntropyOutput out;
  out.loss = at::cross_entropy_loss(logits, target, {}, at::Reduction::Sum, options.ignore_index) *
             options.scale;
  if (!options.token_stats) return out;
  const at::Tensor ignored = target == options.ignore_index;
  const at::Tensor detached = logits.detach(), logp = at::log_softmax(detached, -1);
  out.entropy_T = -(logp.exp() * logp).sum(-1).masked_fill(ignored, 0);
  out.is_top1_T = (detached.argmax(-1) == target).to(logits.scalar_type()).masked_fill(ignored, 0);
  return out;
}

}  // namespace liger::kernels::baseline
