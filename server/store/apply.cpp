#include "server/store/apply.h"

#include <utility>

namespace liger::server {

absl::StatusOr<CommandResult> ApplyCommand(const Command& command, Transaction& txn) {
  return std::visit(
      [&txn](const auto& body) -> absl::StatusOr<CommandResult> {
        auto result = Run(body, txn);
        if (!result.ok()) return result.status();
        return CommandResult(*std::move(result));
      },
      command.body);
}

}  // namespace liger::server
