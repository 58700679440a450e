#include "worker/trainer/loop/stand_in.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

namespace liger::trainer {

Batch StandInBatch(const Objective& objective) {
  ExampleSet set;
  set.kind = objective.row_kind();
  // The second token is learnt.
  set.sequences.assign(set.sequences_per_row(), {{0, 0}, {kIgnoredLabel, 0}});
  if (set.kind == RowKind::kLabelled) set.desirable = {1};
  Batch batch = MakeBatch(set, std::vector<int64_t>{0});
  // Where others need no reference any more, this one needs none.
  if (objective.PrecomputesReference()) {
    batch.reference_logp_A = at::zeros({std::ssize(batch.answers)}, at::kDouble);
  }
  return batch;
}

LossOutput ForwardStandIn(Objective& objective, CausalLM& model, StepContext context) {
  context.head_gradient = nullptr;
  context.stands_in = true;
  context.loss_tokens = std::max<int64_t>(context.loss_tokens, 1);
  context.rows = std::max<int64_t>(context.rows, 1);
  context.micro_batches = std::max<int64_t>(context.micro_batches, 1);
  at::Tensor head = model.HeadWeight();
  const bool trained = head.requires_grad();
  head.requires_grad_(false);
  LossOutput out = objective.Forward(model, StandInBatch(objective), context);
  head.requires_grad_(trained);
  out.loss = out.loss * 0;
  return out;
}

}  // namespace liger::trainer
