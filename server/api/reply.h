#ifndef LIGER_SERVER_API_REPLY_H_
#define LIGER_SERVER_API_REPLY_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/server_callback.h"
#include "server/api/status.h"
#include "server/auth/principal.h"
#include "server/errors/errors.h"

// What every handler does at its beginning and its end.
namespace liger::server {

// Ends a unary RPC with an error.
inline grpc::ServerUnaryReactor* Refuse(grpc::CallbackServerContext* context,
                                        const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

// A callback that ends a unary RPC with what it is given. `response` stays
// valid until then.
template <typename Response>
std::function<void(absl::StatusOr<Response>)> ReplyTo(grpc::ServerUnaryReactor* reactor,
                                                      Response* response) {
  return [reactor, response](absl::StatusOr<Response> answer) {
    if (answer.ok()) *response = *std::move(answer);
    reactor->Finish(ToGrpc(answer.status()));
  };
}

// The `job` field of most requests.
inline absl::Status CheckJobField(const std::string& job) {
  if (!job.empty()) return absl::OkStatus();
  return InvalidArgument("job", "must be a job's name or uid");
}

inline absl::Status CheckRequestId(const std::string& id) {
  constexpr size_t kMost = 128;
  if (id.size() <= kMost) return absl::OkStatus();
  return InvalidArgument("request_id", "must have at most 128 characters");
}

// Of a cancellation or a pause; it stands in the job's message, which every list shows.
inline absl::Status CheckReason(const std::string& reason) {
  constexpr int64_t kMost = 1024;
  const auto begins = [](char c) { return (c & 0xc0) != 0x80; };  // a character of UTF-8
  if (std::count_if(reason.begin(), reason.end(), begins) <= kMost) return absl::OkStatus();
  return InvalidArgument("reason", "must have at most 1024 characters");
}

// The actor in a job's events.
inline std::string ActorOf(const Principal& principal) {
  return principal.name == "anonymous" ? "user" : "user:" + principal.name;
}

// A page size in [1, most]; 0 gives the default.
inline absl::StatusOr<int> PageSize(int requested, int default_size, int most) {
  if (requested < 0) return InvalidArgument("page_size", "must not be negative");
  if (requested == 0) return default_size;
  return requested < most ? requested : most;
}

}  // namespace liger::server

#endif  // LIGER_SERVER_API_REPLY_H_
