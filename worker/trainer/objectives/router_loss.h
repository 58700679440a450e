#ifndef LIGER_WORKER_TRAINER_OBJECTIVES_ROUTER_LOSS_H_
#define LIGER_WORKER_TRAINER_OBJECTIVES_ROUTER_LOSS_H_

#include "worker/trainer/models/causal_lm.h"
#include "worker/trainer/objectives/objective.h"

namespace liger::trainer {

// Adds the load-balancing loss of a mixture of experts, as CausalLM::Hidden made it
// (undefined: nothing is added), to a micro-batch's loss and its metrics "loss" and
// "aux_loss". `loss_weight` is what the metric "loss" of the whole step is divided by.
//
// The loss is not linear in its tokens, so the step's is the mean of its
// micro-batches', as TRL's: the one thing that another cut of a step changes.
//
// Of a sequence group, `out` and aux_loss are what this place adds to both.
void AddRouterLoss(const at::Tensor& aux_loss, const CausalLM& model, const StepContext& context,
                   double loss_weight, LossOutput& out);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_OBJECTIVES_ROUTER_LOSS_H_
