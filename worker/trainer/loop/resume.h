#ifndef LIGER_WORKER_TRAINER_LOOP_RESUME_H_
#define LIGER_WORKER_TRAINER_LOOP_RESUME_H_

#include <string>

#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/optim/optimizer.h"

namespace liger::trainer {

// Brings parameters (compute copies too), optimizer and this rank's generators to
// where they were. Throws TrainerError (CONFIG).
void RestoreTensors(const std::string& checkpoint, const TrainableModel& trainable,
                    Optimizer& optimizer, int rank);
// Brings back the reference that the run moves; this rank's shards where it has such. Throws
// TrainerError (CONFIG).
void RestoreReference(const std::string& checkpoint, const TrainableModel& trainable,
                      CausalLM& reference);
// Parameters alone, of a checkpoint or of what Checkpoints::KeepParameters wrote.
void RestoreParameters(const std::string& dir, const TrainableModel& trainable);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_RESUME_H_
