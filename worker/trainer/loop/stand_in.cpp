#include "worker/trainer/loop/stand_in.h"

#include <algorithm>
#include <vector>

namespace liger::trainer {
namespace {

// Two tokens a sequence, of which the second is learnt.
Batch OneRow(RowKind kind) {
  ExampleSet set;
  set.kind = kind;
  set.sequences.assign(set.sequences_per_row(), {{0, 0}, {kIgnoredLabel, 0}});
  if (kind == RowKind::kLabelled) set.desirable = {1};
  return MakeBatch(set, std::vector<int64_t>{0});
}

}  // namespace

LossOutput ForwardStandIn(Objective& objective, CausalLM& model, StepContext context) {
  context.head_gradient = nullptr;
  context.stands_in = true;
  context.loss_tokens = std::max<int64_t>(context.loss_tokens, 1);
  context.rows = std::max<int64_t>(context.rows, 1);
  context.micro_batches = std::max<int64_t>(context.micro_batches, 1);
  at::Tensor head = model.HeadWeight();
  const bool trained = head.requires_grad();
  head.requires_grad_(false);
  LossOutput out = objective.Forward(model, OneRow(objective.row_kind()), context);
  head.requires_grad_(trained);
  out.loss = out.loss * 0;
  return out;
}

}  // namespace liger::trainer
