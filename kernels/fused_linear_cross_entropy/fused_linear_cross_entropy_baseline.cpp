#include <ATen/ATen.h>

#include "kernels/common/baseline_map.h"
#include "kernels/common/record.h"
#include "kernels/fused_linear_cross_entropy/fused_linear_cross_entropy.h"

namespace liger::kernels::baseline {
namespace {

at::Tensor Loss(const at::Tensor& logits, const at::Tensor& target,
                const FusedLinearCrossEntropyOptions& o) {
  if (!o.token_weight_T.has_value() && o.lse_square_scale == 0) {
    return at::cross_entropy_loss(logits, target, {}, at::Reduction::Sum, o.ignore_index,
                                  o.label_smoothing) *
           o.scale;
  }
  at::Tensor loss_T = at::cross_entropy_loss(logits, target, {}, at::Reduction::None,
                                             o.ignore_index, o.label_smoothing);
  if (o.lse_square_scale != 0) {
    const at::Tensor lse_T = at::logsumexp(logits, {-1}).masked_fill(target == o.ignore_index, 0);
    loss_T = loss_T + o.lse_square_scale * lse_T.square();
  }
  return (o.token_weight_T.has_value() ? loss_T * *o.token_weight_T : loss_T).sum() * o.scale;
}

}  // namespace

FusedLinearCrossEntropyOutput FusedLinearCrossEntropy(
    const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& target,
    const std::optional<at::Tensor>& bias, const FusedLinearCrossEntropyOptions& options) {
  RecordPath(Op::kFusedLinearCrossEntropy, Path::kBaseline);
  const at::Tensor head = at::linear(hidden, weight, bias);
  const at::Tensor logits = MapLogits(head, options.softcap, options.temperature);
  FusedLinearCrossEntropyOutput out;
  out.loss = Loss(logits, target, options);
  if (!options.token_stats) return out;
  const at::Tensor ignored = target == options.ignore_index;
  const at::Tensor detached = logits.detach(), logp = at::log_softmax(detached, -1);
  out.entropy_T = -(logp.exp() * logp).sum(-1).masked_fill(ignored, 0);
  out.is_top1_T = (detached.argmax(-1) == target).to(logits.scalar_type()).masked_fill(ignored, 0);
  return out;
}

}  // namespace liger::kernels::baseline
