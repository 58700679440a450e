#ifndef LIGER_WORKER_AGENT_RECLAIM_H_
#define LIGER_WORKER_AGENT_RECLAIM_H_

#include <string>

#include "absl/status/status.h"
#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/roots.h"

namespace liger::agent {

// Removes a published folder below the root, and nothing else: the root
// itself is refused, symbolic links are removed and not followed. A folder that
// is not there is fine.
absl::Status RemoveBeneath(const Root& root, const std::string& uri);

// RemoveBeneath, if the folder's manifest.json has the digest: another folder at
// that place is somebody else's and stays, which is OK too.
absl::Status RemoveOutput(const Root& root, const worker::v1::PublishedOutput& output);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_RECLAIM_H_
