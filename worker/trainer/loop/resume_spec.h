#ifndef LIGER_WORKER_TRAINER_LOOP_RESUME_SPEC_H_
#define LIGER_WORKER_TRAINER_LOOP_RESUME_SPEC_H_

#include <string>

#include "liger/v1/job_spec.pb.h"

namespace liger::trainer {

// Throws TrainerError (CONFIG, training.resume_from_checkpoint, naming what differs) unless the
// checkpoint in `dir` is of a run of which `now` is the continuation: method, model, dataset,
// adapter and what of training a run keeps to its end.
void RequireOfThisRun(const std::string& dir, const liger::v1::JobSpec& now);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_RESUME_SPEC_H_
