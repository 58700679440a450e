#ifndef LIGER_WORKER_AGENT_BUILD_H_
#define LIGER_WORKER_AGENT_BUILD_H_

#include <string>

namespace liger::agent {

// The version with a digest of the programs that train: "0.1.0+1a2b3c4d5e6f", of
// the trainer, of what its launcher starts and of our libraries beside it. Two
// builds of one version differ. The version alone when they cannot be read.
std::string BuildOf(const std::string& trainer);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_BUILD_H_
