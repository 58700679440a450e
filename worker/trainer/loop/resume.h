#ifndef LIGER_WORKER_TRAINER_LOOP_RESUME_H_
#define LIGER_WORKER_TRAINER_LOOP_RESUME_H_

#include <optional>
#include <string>
#include <vector>

#include "worker/trainer/loop/model_setup.h"
#include "worker/trainer/loop/request.h"
#include "worker/trainer/loop/run_state.h"
#include "worker/trainer/optim/optimizer.h"

namespace liger::trainer {

// A checkpoint to go on from.
struct ResumePoint {
  std::string dir;
  RunState state;
};

// What the task is to go on from; nullopt: from the beginning. Looked up before
// anything is loaded: the folder agrees with its manifest and fits the job.
//
// launch.resume_from is what the coordinator knows of: where it is not there, or
// damaged, the newest older one beside it is taken, and then what the job names or
// the beginning; `warnings` (kNotResumedCode) says why. A damaged one is set aside
// (kDamagedSuffix). training.resume_from_checkpoint is the user's: it throws
// TrainerError, CONFIG naming the field when nothing is there or it is of another
// method, model, dataset, seed, optimizer or precision, and STORAGE naming the file
// that is damaged.
std::optional<ResumePoint> FindResumePoint(const Request& request,
                                           std::vector<liger::v1::Warning>* warnings);

// The checkpoint that rank 0 found, for the other ranks, which do not check it again.
ResumePoint ResumePointOf(const std::string& dir);

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
