#ifndef LIGER_WORKER_TRAINER_LOOP_RUN_TASK_H_
#define LIGER_WORKER_TRAINER_LOOP_RUN_TASK_H_

#include "worker/trainer/loop/checkpoint_requests.h"
#include "worker/trainer/loop/reporter.h"
#include "worker/trainer/loop/request.h"
#include "worker/trainer/loop/stop.h"

namespace liger::trainer {

// Runs a TRAIN or CHECK task to its last event and returns the exit code
// (exit_code.h). The edge at which exceptions end: every failure becomes a
// Failed event, a stop becomes kExitStopped without an event. `checkpoints`: those that
// commands ask for.
int RunTask(const Request& request, Reporter& reporter, const StopFlag& stop,
            CheckpointRequests* checkpoints = nullptr);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_RUN_TASK_H_
