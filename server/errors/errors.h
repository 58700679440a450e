#ifndef LIGER_SERVER_ERRORS_ERRORS_H_
#define LIGER_SERVER_ERRORS_ERRORS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "liger/v1/job.pb.h"

// Errors that a program can read. They are ordinary absl::Status values whose
// payloads are google.rpc details; server/api/status.h puts those on the wire,
// so any part of the server may return one without knowing gRPC.
namespace liger::server {

// INVALID_ARGUMENT with google.rpc.BadRequest: one field violation each.
// The message lists them all, so that it is enough for people.
// REQUIRES: violations is not empty.
absl::Status InvalidArgument(const std::vector<liger::v1::Violation>& violations);
absl::Status InvalidArgument(absl::string_view field, absl::string_view message);

// The fields of a status made by InvalidArgument; none of others.
std::vector<liger::v1::Violation> ViolationsOf(const absl::Status& status);

// `code` with google.rpc.ErrorInfo{reason, domain "liger", metadata}.
// `reason` is UPPER_SNAKE_CASE and part of the API: JOB_NOT_FOUND, ...
absl::Status ErrorWithReason(absl::StatusCode code, absl::string_view reason,
                             absl::string_view message,
                             const std::vector<std::pair<std::string, std::string>>& metadata = {});

// The reason of a status made by ErrorWithReason; empty for others.
std::string ReasonOf(const absl::Status& status);

}  // namespace liger::server

#endif  // LIGER_SERVER_ERRORS_ERRORS_H_
