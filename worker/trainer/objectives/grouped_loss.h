#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_GROUPED_LOSS_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_GROUPED_LOSS_H_

#include <functional>

#include "worker/trainer/objectives/token_logprobs.h"

namespace liger::trainer {

// How a batch's S sequences belong together in a loss: group g has those numbered g, g + groups,
// g + 2 groups and so on, as of pairs (chosen answers first) the chosen and the rejected one.
struct SequenceGroups {
  const SequenceLayout& sequences;
  int64_t groups;
};

// The tokens of groups [begin, end) that predict something, in an order of their own.
struct LossTokens {
  int64_t begin, end;
  TokenLogprobs tokens;     // [C]; logp_T attached
  at::Tensor rows_C;        // which of the batch's tokens each is
  at::Tensor sequence_C;    // its sequence among these groups': all firsts, then all seconds
  int64_t num_sequences;    // of these groups

  // Of values of these tokens, in fp64: [num_sequences].
  at::Tensor Sum(const at::Tensor& values_C) const;
};

// These groups' share of the micro-batch's loss, a scalar: the loss is the sum over ranges of groups
// that together are all of them.
using LossOfGroups = std::function<at::Tensor(const LossTokens& tokens)>;

struct GroupedLoss {
  at::Tensor loss;       // fp32 scalar, attached
  TokenLogprobs tokens;  // [T], without gradients
};

// The loss under the model's head, and what the metrics are made of. LIGER: groups of a few thousand
// tokens at a time, whose logits stand until their loss is known. BASELINE: all at once.
// targets_T is on the host.
GroupedLoss ComputeGroupedLoss(CausalLM& model, const at::Tensor& hidden_TD,
                               const at::Tensor& targets_T, const SequenceGroups& groups,
                               const StepContext& context, const LossOfGroups& loss);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_GROUPED_LOSS_H_
