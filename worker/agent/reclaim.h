#ifndef LIGER_WORKER_AGENT_RECLAIM_H_
#define LIGER_WORKER_AGENT_RECLAIM_H_

#include <string>

#include "absl/status/status.h"
#include "worker/agent/roots.h"

namespace liger::agent {

// Removes a published folder below the root, and nothing else: the root
// itself is refused, symbolic links are removed and not followed. A folder that
// is not there is fine.
absl::Status RemoveBeneath(const Root& root, const std::string& uri);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_RECLAIM_H_
