#include "client/errors.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/tls.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace liger::client {
namespace {

using liger::v1::JobStatus;

// Calls found(detail) for each of the status's details of that type.
template <typename Detail, typename Found>
void ForEachDetail(const grpc::Status& status, Found found) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return;
  for (const auto& any : details.details()) {
    Detail detail;
    if (any.UnpackTo(&detail)) found(detail);
  }
}

// The message with what its details add. A field violation already names field
// and remedy, so it replaces the summary.
std::string Describe(const grpc::Status& status) {
  std::string violations;
  ForEachDetail<google::rpc::BadRequest>(status, [&](const google::rpc::BadRequest& bad_request) {
    for (const auto& violation : bad_request.field_violations()) {
      absl::StrAppend(&violations, violations.empty() ? "" : "\n  ", violation.field(),
                      violation.field().empty() ? "" : ": ", violation.description());
    }
  });
  return violations.empty() ? status.error_message() : violations;
}

}  // namespace

ExitCode ExitCodeFor(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::OK:
      return kOk;
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::NOT_FOUND:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::FAILED_PRECONDITION:
      return kInvalidInput;
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
      return kNotAuthorised;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return kTimedOut;
    default:
      return kError;
  }
}

ExitCode ExitCodeFor(JobStatus::State state) {
  switch (state) {
    case JobStatus::FAILED:
      return kJobFailed;
    case JobStatus::CANCELLED:
      return kCancelled;
    default:
      return kOk;
  }
}

bool CoordinatorAway(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE ||
         (status.error_code() == grpc::StatusCode::CANCELLED && status.error_details().empty());
}

bool MayAnswerLater(const grpc::Status& status) {
  const std::string& message = status.error_message();
  return TlsAdvice(message).empty() && !absl::StrContains(message, "Domain name not found") &&
         !absl::StrContains(message, "Name or service not known");
}

void ThrowIfError(const grpc::Status& status, const std::string& address) {
  if (status.ok()) return;
  // The coordinator's own errors carry details (server/api/status.h); one
  // without is the channel's.
  if (CoordinatorAway(status) && status.error_details().empty()) {
    if (const std::string advice = TlsAdvice(status.error_message()); !advice.empty()) {
      throw CliError(kError, absl::StrCat("no coordinator answers at ", address, " (",
                                          status.error_message(), ")\n", advice));
    }
    throw CliError(kError,
                   absl::StrCat("no coordinator answers at ", address, " (", status.error_message(),
                                ")\nstart one with `liger-cli up`, or name yours with "
                                "--address or LIGER_ADDRESS"));
  }
  throw CliError(ExitCodeFor(status.error_code()), Describe(status));
}

std::string ReasonOf(const grpc::Status& status) {
  std::string reason;
  ForEachDetail<google::rpc::ErrorInfo>(
      status, [&](const google::rpc::ErrorInfo& info) { reason = info.reason(); });
  return reason;
}

void ThrowIfError(const absl::Status& status) {
  if (status.ok()) return;
  const bool input = status.code() == absl::StatusCode::kInvalidArgument ||
                     status.code() == absl::StatusCode::kNotFound;
  throw CliError(input ? kInvalidInput : kError, std::string(status.message()));
}

}  // namespace liger::client
