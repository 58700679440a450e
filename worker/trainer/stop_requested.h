#ifndef LIGER_WORKER_TRAINER_STOP_REQUESTED_H_
#define LIGER_WORKER_TRAINER_STOP_REQUESTED_H_

#include <stdexcept>

namespace liger::trainer {

// Thrown where the task was asked to end; exit code 2. Not a failure.
class StopRequested : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_STOP_REQUESTED_H_
