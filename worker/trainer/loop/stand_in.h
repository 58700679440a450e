#ifndef LIGER_WORKER_TRAINER_LOOP_STAND_IN_H_
#define LIGER_WORKER_TRAINER_LOOP_STAND_IN_H_

#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

// A batch of one row made up, of two tokens a sequence.
Batch StandInBatch(const Objective& objective);

// Objective::Forward for a rank without rows, where every pass of the model is one of all ranks
// (Strategy::passes_together): the same passes, of a row made up, whose loss is zero and gives
// every parameter a gradient of zero, but none to the head, whose gradient may be on its way. The
// metrics are for nobody.
LossOutput ForwardStandIn(Objective& objective, CausalLM& model, StepContext context);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_STAND_IN_H_
