#ifndef LIGER_WORKER_AGENT_RECLAIM_H_
#define LIGER_WORKER_AGENT_RECLAIM_H_

#include <string>

#include "absl/status/status.h"
#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/roots.h"

namespace liger::agent {

// Removes a published folder below the root if its manifest.json has the digest:
// another folder at that place is somebody else's and stays, which is OK. Of the
// folder go the files that the manifest names, then the manifest, then the folders
// that are empty now. What else lies there stays, and the log says so. Symbolic links
// are not followed; the root itself is refused; a folder that is not there is fine.
absl::Status RemoveOutput(const Root& root, const worker::v1::PublishedOutput& output);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_RECLAIM_H_
