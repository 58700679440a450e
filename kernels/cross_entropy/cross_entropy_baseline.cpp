#include <ATen/ATen.h>

#include "kernels/common/record.h"
#include "kernels/cross_entropy/cross_entropy.h"

namespace liger::kernels::baseline {

at::Tensor CrossEntropy(const at::Tensor& logits, const at::Tensor& target, double scale,
                        int64_t ignore_index) {
  RecordPath(Op::kCrossEntropy, Path::kBaseline);
  const at::Tensor upcast = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  return at::cross_entropy_loss(upcast, target, {}, at::Reduction::Sum, ignore_index) * scale;
}

CrossEntropyOutput CrossEntropyWithOptions(const at::Tensor& logits, const at::Tensor& target,
                                           const CrossEntropyOptions& options) {
  RecordPath(Op::kCrossEntropy, Path::kBaseline);
  at::Tensor z = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  if (options.softcap != 0) z = at::tanh(z / options.softcap) * options.softcap;
  const at::Tensor ignored = target == options.ignore_index;
  const at::Tensor lse = at::logsumexp(z, {1}).masked_fill(ignored, 0);
  const auto weight = options.class_weight_V.has_value()
                          ? std::optional(options.class_weight_V->to(z.scalar_type()))
                          : std::nullopt;
  const int64_t reduction = options.reduction == Reduction::kNone  ? at::Reduction::None
                            : options.reduction == Reduction::kSum ? at::Reduction::Sum
                                                                   : at::Reduction::Mean;
  CrossEntropyOutput out;
  out.z_loss = options.lse_square_scale * options.scale * lse.square();
  if (options.reduction != Reduction::kNone) out.z_loss = out.z_loss.sum();
  if (options.reduction == Reduction::kMean) {
    out.z_loss = out.z_loss / ignored.logical_not().sum().clamp_min(1);
  }
  out.loss = at::cross_entropy_loss(z, target, weight, reduction, options.ignore_index,
                                    options.label_smoothing) *
                 options.scale +
             out.z_loss;
  out.logsumexp_T = lse;
  if (!options.token_stats) return out;
  const at::Tensor detached = z.detach(), logp = at::log_softmax(detached, -1);
  out.entropy_T = -(logp.exp() * logp).sum(-1).masked_fill(ignored, 0);
  out.argmax_T = detached.argmax(-1).masked_fill(ignored, 0);
  return out;
}

}  // namespace liger::kernels::baseline
