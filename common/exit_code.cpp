#include "common/exit_code.h"

namespace liger {

int StartupExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:  // a data folder in use
    case absl::StatusCode::kUnavailable:         // a port in use
      return kExitInvalidInput;
    default:
      return 1;
  }
}

}  // namespace liger
