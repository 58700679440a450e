#ifndef LIGER_WORKER_TRAINER_LOOP_OUTPUT_CHECK_H_
#define LIGER_WORKER_TRAINER_LOOP_OUTPUT_CHECK_H_

#include <cstdint>
#include <string>

#include "worker/trainer/loop/request.h"

// What can be told of the place of a job's output before something is written for it.
namespace liger::trainer {

// Throws TrainerError (CONFIG, output.uri) when something is at `output` that the job may not
// replace.
void RequireFreeOutput(const std::string& output, const liger::v1::JobSpec& spec);

// Of the place where an agent will publish (Launch.output_dir; where that is empty, nothing is
// looked at).
//
// Throws TrainerError (STORAGE, output.uri) when nothing can be put there, whatever the room: the
// result, or a checkpoint.
void RequireWritableOutput(const Request& request);
// Also when a checkpoint of so many bytes has no room there.
void RequireRoomForCheckpoint(const Request& request, int64_t bytes);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_OUTPUT_CHECK_H_
