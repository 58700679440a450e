#ifndef LIGER_WORKER_TRAINER_LOOP_STEP_H_
#define LIGER_WORKER_TRAINER_LOOP_STEP_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "worker/trainer/data/batch.h"
#include "worker/trainer/error.h"
#include "worker/trainer/loop/stop.h"
#include "worker/trainer/objectives/objective.h"
#include "worker/trainer/optim/optimizer.h"
#include "worker/trainer/parallel/strategy.h"

namespace liger::trainer {

struct StepResult {
  double loss = 0;         // of the whole step, all micro-batches and ranks
  double grad_norm = 0;    // before clipping
  int64_t num_tokens = 0;  // real tokens, all ranks
  MetricSums metrics;      // summed over ranks
  bool all_ranks_have_metrics = true;
  // Of DDP on a GPU: how long its stream was at this rank's forward and backward passes, which the
  // sums of gradients under them do not hold up.
  std::optional<double> device_seconds;
};

// What one optimizer step works on. References outlive the step.
struct StepParts {
  CausalLM& model;
  Objective& objective;
  TrainableParameters& parameters;
  Optimizer& optimizer;
  Strategy& strategy;
  const StopFlag& stop;
  // Called before the optimizer changes parameters and states; none: nobody needs to know.
  std::function<void()> before_update = nullptr;
};

// Strategy::Attach's: a head whose gradient a fused op adds up in the forward pass.
std::set<size_t> FinishedBeforeBackward(const StepParts& parts);

// The failure of class NAN for `what` ("the loss") that is not finite at `step`
// (from 1; 0: before the first).
TrainerError NotFinite(const std::string& what, double value, int64_t step);

// One optimizer step over its micro-batches. Losses are scaled by the counts
// of the whole step, so the gradient is that of one large batch however it is
// cut. Throws TrainerError (NAN) naming `step` (from 1) when the loss or the
// gradient is not finite; the parameters are then still those before the step.
StepResult RunStep(const StepParts& parts, const std::vector<Batch>& micro_batches, int64_t step,
                   double learning_rate, double max_grad_norm);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_STEP_H_
