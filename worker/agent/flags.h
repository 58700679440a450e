#ifndef LIGER_WORKER_AGENT_FLAGS_H_
#define LIGER_WORKER_AGENT_FLAGS_H_

#include <optional>

#include "worker/agent/options.h"

namespace liger::agent {

// liger-worker's command line. On --help, --version and mistakes it prints and
// sets *exit_code (3 for a mistake) and returns nullopt.
std::optional<Options> ParseFlags(int argc, char** argv, int* exit_code);

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_FLAGS_H_
