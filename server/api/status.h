#ifndef LIGER_SERVER_API_STATUS_H_
#define LIGER_SERVER_API_STATUS_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace liger::server {

// The one bridge between the two status types. google.rpc payloads of an
// absl::Status (server/errors) travel as google.rpc.Status in the
// grpc-status-details-bin trailer; other payloads stay inside. Every error has
// that trailer, by which a client tells the coordinator's word from its own
// channel's.
grpc::Status ToGrpc(const absl::Status& status);

// The reverse, for the tests and for in-process callers.
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace liger::server

#endif  // LIGER_SERVER_API_STATUS_H_
