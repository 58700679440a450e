#ifndef LIGER_COMMON_SPEC_ELASTIC_H_
#define LIGER_COMMON_SPEC_ELASTIC_H_

#include <vector>

#include "liger/v1/job_spec.pb.h"

namespace liger {

// Numbers of devices on which an attempt of a resolved job may run, most first:
// resources.count, and for a job that has run before (`again`) with
// parallel.elastic the smaller ones, down to 1, on which gradient accumulation can
// make up for the devices that are missing (they divide resources.count x
// training.gradient_accumulation_steps) and which parallel.hybrid_shard_size divides.
std::vector<int> WorldSizes(const liger::v1::JobSpec& resolved, bool again);

// The job on `count` devices, one of the above: every step takes the same rows, as
// more micro-batches of fewer ranks.
liger::v1::JobSpec OnDevices(liger::v1::JobSpec resolved, int count);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_ELASTIC_H_
