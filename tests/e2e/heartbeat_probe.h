#ifndef LIGER_TESTS_E2E_HEARTBEAT_PROBE_H_
#define LIGER_TESTS_E2E_HEARTBEAT_PROBE_H_

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace liger::e2e {

inline constexpr char kProbeWorkerId[] = "heartbeat-probe";

// Registers as a worker without devices and sends `count` heartbeats, each
// `interval` after the answer to the last. Every tenth tells of a changed
// inventory, so that commits are under way. Returns how long the answers took.
std::vector<absl::Duration> MeasureHeartbeats(const std::string& worker_address, int count,
                                              absl::Duration interval);

}  // namespace liger::e2e

#endif  // LIGER_TESTS_E2E_HEARTBEAT_PROBE_H_
