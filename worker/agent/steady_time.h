#ifndef LIGER_WORKER_AGENT_STEADY_TIME_H_
#define LIGER_WORKER_AGENT_STEADY_TIME_H_

#include <time.h>

#include "absl/time/time.h"

namespace liger::agent {

// Time since boot as an absl::Time. Never jumps, and unlike CLOCK_MONOTONIC it
// goes on while the host is suspended: a lease must not outlive a suspend.
inline absl::Time SteadyNow() {
  timespec ts;
  clock_gettime(CLOCK_BOOTTIME, &ts);
  return absl::TimeFromTimespec(ts);
}

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_STEADY_TIME_H_
