#ifndef LIGER_WORKER_TRAINER_LOOP_FAILURE_H_
#define LIGER_WORKER_TRAINER_LOOP_FAILURE_H_

#include <exception>

#include "common/spec/less_memory.h"
#include "liger/v1/job.pb.h"
#include "worker/trainer/parallel/rank_status.h"

namespace liger::trainer {

// The one place where an exception becomes a Failure: TrainerErrors as they
// are; out of memory, a full disk and device faults with a class and what to
// do; anything else with its message and no class (an internal error, which is
// not worth a retry). What to do about memory depends on what used it.
liger::v1::Failure FailureFromException(std::exception_ptr exception, const MemoryUser& user = {});

// What a rank that ends with it tells the others: StopRequested is no failure.
Farewell FarewellOf(const std::exception_ptr& exception);

// Exit code for a failure: kExitInvalidInput for CONFIG and DATA, kExitError
// for internal errors, else kExitFailed.
int ExitCodeFor(const liger::v1::Failure& failure);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_FAILURE_H_
