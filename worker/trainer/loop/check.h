#ifndef LIGER_WORKER_TRAINER_LOOP_CHECK_H_
#define LIGER_WORKER_TRAINER_LOOP_CHECK_H_

#include "liger/trainer/v1/trainer.pb.h"
#include "worker/trainer/loop/request.h"
#include "worker/trainer/loop/stop.h"

namespace liger::trainer {

// Validates a job without a device and without reading weights: paths, model
// config, safetensors headers against the model's names and shapes, tokenizer,
// chat template, generation config, kernels, precision, objective, and every
// data row (but launch.check_max_rows and check_seconds). Checks that do not depend on a
// failed one still run, so that one CHECK reports as much as it can.
liger::trainer::v1::CheckResult CheckJob(const Request& request, const StopFlag& stop);

}  // namespace liger::trainer

#endif  // LIGER_WORKER_TRAINER_LOOP_CHECK_H_
