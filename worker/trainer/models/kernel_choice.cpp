#include "worker/trainer/models/kernel_choice.h"

namespace liger::trainer {

KernelChoice KernelChoice::FromSpec(const liger::v1::KernelSpec& spec,
                                    const KernelChoice& defaults) {
  const bool liger = spec.mode() == liger::v1::KERNEL_MODE_LIGER ||
                     spec.mode() == liger::v1::KERNEL_MODE_UNSPECIFIED;
  KernelChoice choice = liger ? defaults : Baseline();
  if (spec.has_rope()) choice.rope = spec.rope();
  if (spec.has_rms_norm()) choice.rms_norm = spec.rms_norm();
  if (spec.has_swiglu()) choice.swiglu = spec.swiglu();
  if (spec.has_cross_entropy()) choice.cross_entropy = spec.cross_entropy();
  if (spec.has_fused_linear_cross_entropy()) {
    choice.fused_linear_cross_entropy = spec.fused_linear_cross_entropy();
  }
  if (spec.has_fused_linear_logprob()) choice.fused_linear_logprob = spec.fused_linear_logprob();
  if (spec.has_geglu()) choice.geglu = spec.geglu();
  if (spec.has_shared_prefixes()) choice.shared_prefixes = spec.shared_prefixes();
  return choice;
}

}  // namespace liger::trainer
