#ifndef LIGER_WORKER_TRAINER_LOOP_JOB_LENGTH_H_
#define LIGER_WORKER_TRAINER_LOOP_JOB_LENGTH_H_

#include <cstdint>
#include <string>

#include "liger/v1/job_spec.pb.h"
#include "worker/trainer/data/sampler.h"

namespace liger::trainer {

// How training rows are dealt out to `world_size` ranks that have rows of their own.
BatchOptions TrainBatchOptions(const liger::v1::JobSpec& spec, int64_t rank, int64_t world_size);

// Optimizer steps of a job: max_steps, or what num_train_epochs come to
// (rounded up, as transformers).
int64_t TotalSteps(const liger::v1::TrainingSpec& training, int64_t steps_per_epoch);

// "357 optimizer steps, 3 epochs of 119 steps". REQUIRES: steps_per_epoch > 0.
std::string DescribeLength(const liger::v1::TrainingSpec& training, int64_t steps_per_epoch);

// The field that says so.
const char* LengthField(const liger::v1::TrainingSpec& training);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_JOB_LENGTH_H_
