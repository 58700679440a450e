#ifndef LIGER_CLIENT_ERRORS_H_
#define LIGER_CLIENT_ERRORS_H_

#include <string>

#include "absl/status/status.h"
#include "client/exit_code.h"
#include "grpcpp/support/status.h"
#include "liger/v1/job.pb.h"

namespace liger::client {

// What main prints as "error: ..." before it exits with `code`.
class CliError : public std::exception {
 public:
  CliError(ExitCode code, std::string message) : code_(code), message_(std::move(message)) {}
  ExitCode code() const { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  ExitCode code_;
  std::string message_;
};

// Throws for a status that is not OK: field violations one a line, the reason
// where the server gave one, and what to do when the server is not reachable.
void ThrowIfError(const grpc::Status& status, const std::string& address);
void ThrowIfError(const absl::Status& status);

// The reason in the status's google.rpc.ErrorInfo ("JOB_NOT_FOUND"), or empty.
std::string ReasonOf(const grpc::Status& status);

// Of a call that its caller did not cancel: the coordinator is not there, or is about
// to go. A gRPC server that shuts down answers new calls with a bare CANCELLED.
bool CoordinatorAway(const grpc::Status& status);

// Of a coordinator that is away and was never heard: whether it may answer later. Not
// where the certificates or the address rule that out.
bool MayAnswerLater(const grpc::Status& status);

// CANCELLED is no cancelled job: kCancelled comes from a job's state only.
ExitCode ExitCodeFor(grpc::StatusCode code);

// Exit code that tells how a job in a terminal state ended.
ExitCode ExitCodeFor(liger::v1::JobStatus::State state);

}  // namespace liger::client

#endif  // LIGER_CLIENT_ERRORS_H_
