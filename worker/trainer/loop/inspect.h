#ifndef LIGER_WORKER_TRAINER_LOOP_INSPECT_H_
#define LIGER_WORKER_TRAINER_LOOP_INSPECT_H_

#include <cstdint>
#include <iosfwd>

#include "worker/trainer/loop/request.h"

namespace liger::trainer {

struct InspectOptions {
  SpecOptions spec;
  int64_t row = 1;  // to show, among those that are trained on
  bool json = false;
  bool color = false;
};

// `liger-trainer inspect`: what the trainer makes of a job's data, without its
// weights and without a device. Writes the rows read, dropped and cut, their
// lengths in tokens before anything was cut, and one row as the model sees it,
// with the tokens that it is trained on in colour (between « and » without).
// Throws TrainerError.
void RunInspect(const InspectOptions& options, std::ostream& out);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_INSPECT_H_
