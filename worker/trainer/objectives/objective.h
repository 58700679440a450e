#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_OBJECTIVE_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_OBJECTIVE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/data/batch.h"
#include "worker/trainer/gradient_sum.h"
#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/objectives/metric_sums.h"

namespace liger::trainer {

// What a micro-batch must know of the whole optimizer step, so that the
// gradients of all micro-batches of all ranks simply add up.
struct StepContext {
  // Sums of the micro-batches' StepCounts over all micro-batches and ranks of
  // the step. Known before the first forward pass.
  int64_t loss_tokens = 0;
  int64_t rows = 0;  // SFT rows, KTO rows or pairs
  // Optional, for objectives whose FusesHead: the trainer's fp32 buffer [V, D]
  // for the head's gradient (TrainableParameters::DirectGradient), which fused
  // heads then add into, in Forward, instead of handing autograd a tensor of that size.
  // Needs backward() to be called on LossOutput::loss as it is, after head_gradient->Settled().
  GradientSum* head_gradient = nullptr;
  // Rows of logits that a fused head of the preference objectives holds at once; 0: as the memory
  // allows (kernels::FusedLinearLoss).
  int64_t most_logits_rows = 0;
  // Micro-batches with tokens, of all ranks.
  int64_t micro_batches = 1;
  // Element-wise over ranks, in place, on the model's device; empty: one rank.
  std::function<void(at::Tensor)> sum_across_ranks;
  // The batch stands in for one without rows: it adds nothing to those sums.
  bool stands_in = false;

  // Tells a fused head's options where its gradient goes.
  template <typename HeadOptions>
  void LendHeadGradient(HeadOptions& options) const {
    if (head_gradient == nullptr) return;
    options.grad_weight_VH = head_gradient->sum;
    options.grad_weight_is_new = head_gradient->TakeNew();
  }
};

// One micro-batch's part of StepContext, from the labels alone.
struct StepCounts {
  int64_t loss_tokens = 0;
  int64_t rows = 0;
};

struct LossOutput {
  // This micro-batch's share of the step's loss, fp32 scalar. Summed over
  // micro-batches and ranks it is the step's loss, so gradients are summed,
  // never averaged. Attached unless gradients are off.
  at::Tensor loss;
  // TRL's names ("loss" included), detached.
  MetricSums metrics;
  int64_t num_tokens = 0;  // real tokens of the micro-batch
};

// reference = alpha * model + (1 - alpha) * reference.
using MixReference = std::function<void(double alpha)>;

class Objective {
 public:
  virtual ~Objective() = default;

  // Takes the batch on the host and moves it to the model's device. With grad
  // mode off (evaluation) no work is done for gradients; the metrics are the
  // same. `batch` has at least one token with a loss in the step.
  virtual LossOutput Forward(CausalLM& model, const Batch& batch, const StepContext& context) = 0;

  // In the place of Forward on a rank that has no rows of a micro-batch of which others have some:
  // joins them where Forward sums over ranks.
  virtual void ForwardNothing(CausalLM& model, const StepContext& context) {}
  // What its rows are.
  virtual RowKind row_kind() const { return RowKind::kSequence; }

  // Whether Forward takes `model`'s head and the loss in one: without all logits, and the head's
  // gradient is whole before the backward pass. Else StepContext::head_gradient has no use.
  // The default: the switch of the preference objectives.
  virtual bool FusesHead(const CausalLM& model) const;

  // Counts of one micro-batch; host only.
  virtual StepCounts Count(const Batch& batch) const = 0;

  // Whether Forward compares with the model as it was before training. Then
  // SetReference comes before Forward: a frozen copy on the same device.
  virtual bool NeedsReference() const { return false; }
  // Or nullptr, to free it, once every batch has its reference_logp_A. `mix`: how AfterStep moves
  // it where parameters are not whole here; none: parameter by parameter.
  void SetReference(std::shared_ptr<CausalLM> reference, MixReference mix = nullptr) {
    reference_ = std::move(reference);
    mix_reference_ = std::move(mix);
  }

  // Whether the reference is asked once, before the first step (PrecomputeReference).
  virtual bool PrecomputesReference() const { return false; }
  // Of the batch's own answers under `reference`, [2P] of pairs and [R] of labelled rows,
  // fp64, without gradients. `batch` may be another's `mismatched`.
  virtual at::Tensor ReferenceLogps(CausalLM& reference, const Batch& batch) const;
  // Whether Forward compares Batch::mismatched with the reference, too.
  virtual bool ComparesMismatched() const { return false; }

  // After optimizer step `step` (from 1): moves the reference where the spec says so.
  virtual void AfterStep(const CausalLM& model, int64_t step) {}
  // The reference that AfterStep moves, which a run that goes on needs back; or nullptr.
  virtual CausalLM* MovingReference() const { return nullptr; }

 protected:
  CausalLM& reference() const;
  const MixReference& mix_reference() const { return mix_reference_; }

 private:
  std::shared_ptr<CausalLM> reference_;
  MixReference mix_reference_;
};

// The objective that the spec's method names.
std::unique_ptr<Objective> MakeObjective(const liger::v1::JobSpec& resolved_spec);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_OBJECTIVE_H_
