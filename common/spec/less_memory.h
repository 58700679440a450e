#ifndef LIGER_COMMON_SPEC_LESS_MEMORY_H_
#define LIGER_COMMON_SPEC_LESS_MEMORY_H_

#include <string>

#include "liger/v1/job_spec.pb.h"

namespace liger {

struct MemoryUser {
  const liger::v1::JobSpec* job = nullptr;  // resolved; null: not known
  // In an evaluation, which has batches of its own and keeps nothing for a backward pass.
  bool evaluating = false;
  // Before the first batch: reads and tokenises rows.
  bool reading = false;
};

// What to do where a job takes more memory than there is, as a sentence without its full stop: of
// what the job does not do yet.
std::string LessDeviceMemory(const MemoryUser& user);
std::string LessHostMemory(const MemoryUser& user);

}  // namespace liger

#endif  // LIGER_COMMON_SPEC_LESS_MEMORY_H_
