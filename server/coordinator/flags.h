#ifndef LIGER_SERVER_COORDINATOR_FLAGS_H_
#define LIGER_SERVER_COORDINATOR_FLAGS_H_

#include "server/coordinator/options.h"

namespace CLI {
class App;
}

namespace liger::server {

// Declares every flag of liger-coordinator, with `options` as its defaults and
// its destination; both outlive the parse.
void AddFlags(CLI::App* app, CoordinatorOptions* options);

}  // namespace liger::server

#endif  // LIGER_SERVER_COORDINATOR_FLAGS_H_
