#ifndef LIGER_WORKER_TRAINER_MODELS_KERNEL_CHOICE_H_
#define LIGER_WORKER_TRAINER_MODELS_KERNEL_CHOICE_H_

#include "liger/v1/job_spec.pb.h"

namespace liger::trainer {

// Which implementation each patched op uses: true is the fused op of kernels/,
// false its baseline twin, written the way transformers writes it. Attention is
// the same code in both.
struct KernelChoice {
  bool rope = true;
  bool rms_norm = true;
  bool swiglu = true;
  bool cross_entropy = true;
  // Head and loss in one, never holding the logits: of SFT, where
  // cross_entropy then has no effect, and of the preference objectives.
  bool fused_linear_cross_entropy = true;
  bool fused_linear_logprob = true;
  bool geglu = true;
  // What several sequences of a batch begin with is computed once.
  bool shared_prefixes = true;
  // The layers' matrix products; false: torch's. By the mode alone: which
  // products are the fast ones of a CPU is the process's choice
  // (kernels::CpuGemm), not the job's.
  bool linear = true;

  bool operator==(const KernelChoice&) const = default;

  // Mode first, then the per-op switches on top of it; CUSTOM starts from
  // all-off. `defaults` (a model type's patches) is what LIGER mode means.
  static KernelChoice FromSpec(const liger::v1::KernelSpec& spec, const KernelChoice& defaults);
  static KernelChoice Baseline() {
    return {false, false, false, false, false, false, false, false, false};
  }
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_MODELS_KERNEL_CHOICE_H_
