#ifndef LIGER_WORKER_TRAINER_LOOP_EVALUATE_H_
#define LIGER_WORKER_TRAINER_LOOP_EVALUATE_H_

#include <map>
#include <string>
#include <vector>

#include "worker/trainer/data/batch.h"
#include "worker/trainer/loop/stop.h"
#include "worker/trainer/objectives/objective.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

// The objective's metrics over all of `batches`, this rank's share of the set, and those of the
// other ranks, as eval_<name>, with eval_runtime in seconds. Means are over tokens (or rows) of the
// whole set, not means of batch means. Without gradients.
std::map<std::string, double> Evaluate(CausalLM& model, Objective& objective,
                                       const std::vector<Batch>& batches, Strategy& strategy,
                                       const StopFlag& stop);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_EVALUATE_H_
