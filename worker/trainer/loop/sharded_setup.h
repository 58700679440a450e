#ifndef LIGER_WORKER_TRAINER_LOOP_SHARDED_SETUP_H_
#define LIGER_WORKER_TRAINER_LOOP_SHARDED_SETUP_H_

#include <memory>

#include "worker/trainer/loop/model_setup.h"

// Parts of model_setup.h; not for use elsewhere.
namespace liger::trainer {

// training.gradient_checkpointing.
void ApplyCheckpointing(const liger::v1::TrainingSpec& training, CausalLM& model);

// MakeReference of a sharded model.
std::shared_ptr<CausalLM> MakeShardedReference(const liger::v1::JobSpec& spec,
                                               const TrainableModel& trainable);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_SHARDED_SETUP_H_
