#ifndef LIGER_COMMON_SPEC_LESS_MEMORY_H_
#define LIGER_COMMON_SPEC_LESS_MEMORY_H_

#include <string>

#include "liger/v1/job_spec.pb.h"

namespace liger {

// What to do where a job takes more memory than there is, as one sentence without its full stop:
// of what the job does not do yet. `resolved` null: of a job that is not known.
std::string LessDeviceMemory(const liger::v1::JobSpec* resolved);
std::string LessHostMemory(const liger::v1::JobSpec* resolved);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_LESS_MEMORY_H_
