#include <ATen/ATen.h>

#include "kernels/common/baseline_map.h"
#include "kernels/common/record.h"
#include "kernels/fused_linear_logprob/fused_linear_logprob.h"

namespace liger::kernels::baseline {

FusedLinearLogprobOutput Logprob(const at::Tensor& head, const at::Tensor& target,
                                 const FusedLinearLogprobOptions& options) {
  RecordPath(Op::kFusedLinearLogprob, Path::kBaseline);
  const at::Tensor logits = MapLogits(head, options.softcap, options.temperature);
  const at::Tensor ignored = target == options.ignore_index;
  const at::Tensor index = target.masked_fill(ignored, 0).unsqueeze(-1);
  const at::Tensor logp = logits.gather(-1, index).squeeze(-1) - at::logsumexp(logits, {-1});
  FusedLinearLogprobOutput out{.logp_T = logp.masked_fill(ignored, 0)};
  if (!options.token_stats) return out;
  const at::Tensor detached = logits.detach(), all = at::log_softmax(detached, -1);
  out.entropy_T = -(all.exp() * all).sum(-1).masked_fill(ignored, 0);
  out.log_sum_sq_T = at::logsumexp(2 * all, {-1}).masked_fill(ignored, 0);
  out.mean_logit_T = detached.mean(-1).masked_fill(ignored, 0);
  out.is_top1_T = (detached.argmax(-1) == target).to(logits.scalar_type()).masked_fill(ignored, 0);
  return out;
}

FusedLinearLogprobOutput FusedLinearLogprob(const at::Tensor& hidden, const at::Tensor& weight,
                                            const at::Tensor& target,
                                            const std::optional<at::Tensor>& bias,
                                            const FusedLinearLogprobOptions& options) {
  return Logprob(at::linear(hidden, weight, bias), target, options);
}

}  // namespace liger::kernels::baseline
