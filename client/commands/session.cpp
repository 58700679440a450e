#include <unistd.h>

#include <memory>

#include "client/commands/commands.h"
#include "client/connection.h"
#include "client/format.h"
#include "client/terminal.h"
#include "client/worker_names.h"

namespace liger::client {

Connection& Session::connection() {
  if (!connection_) connection_ = std::make_unique<Connection>(ResolveEndpoint(flags, context));
  return *connection_;
}

void Session::NameWorkers(google::protobuf::Message* message) {
  if (output == Output::kTable && output_name != kWide) {
    WorkerNames::Of(connection()).PutInto(message);
  }
}

int Session::columns() const { return output_name == kWide ? 0 : TerminalColumns(STDOUT_FILENO); }

}  // namespace liger::client
