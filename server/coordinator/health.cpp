#include "server/coordinator/health.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/file.h"
#include "google/protobuf/wrappers.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/impl/codegen/client_unary_call.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/impl/codegen/rpc_method.h"
#include "grpcpp/security/credentials.h"

namespace liger::server {
namespace {

// grpc.health.v1 comes without headers in Debian. These have its messages' wire
// format: {string service = 1} and {ServingStatus status = 1}.
using Request = google::protobuf::StringValue;
using Response = google::protobuf::Int32Value;
constexpr int kServing = 1;

absl::Status ReadInto(const std::string& path, std::string* pem) {
  if (path.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> content = ReadFile(path);
  if (!content.ok()) return content.status();
  *pem = *std::move(content);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const HealthQuery& query) {
  if (query.tls_ca.empty() && query.tls_cert.empty() && query.tls_key.empty()) {
    return grpc::InsecureChannelCredentials();
  }
  if (query.tls_cert.empty() != query.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key belong together");
  }
  grpc::SslCredentialsOptions ssl;
  if (absl::Status s = ReadInto(query.tls_ca, &ssl.pem_root_certs); !s.ok()) return s;
  if (absl::Status s = ReadInto(query.tls_cert, &ssl.pem_cert_chain); !s.ok()) return s;
  if (absl::Status s = ReadInto(query.tls_key, &ssl.pem_private_key); !s.ok()) return s;
  return grpc::SslCredentials(ssl);
}

}  // namespace

absl::Status CheckHealth(const HealthQuery& query) {
  absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> credentials = Credentials(query);
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  if (!query.tls_name.empty()) arguments.SetSslTargetNameOverride(query.tls_name);
  const std::shared_ptr<grpc::Channel> channel =
      grpc::CreateCustomChannel(query.address, *credentials, arguments);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + query.timeout));
  Request request;
  request.set_value(query.service);
  Response response;
  const grpc::internal::RpcMethod method("/grpc.health.v1.Health/Check",
                                         grpc::internal::RpcMethod::NORMAL_RPC);
  const grpc::Status status =
      grpc::internal::BlockingUnaryCall(channel.get(), method, &context, request, &response);
  if (!status.ok()) {
    return absl::UnavailableError(absl::StrCat(query.address, ": ", status.error_message()));
  }
  if (response.value() != kServing) {
    return absl::UnavailableError(absl::StrCat(query.address, " does not serve now"));
  }
  return absl::OkStatus();
}

}  // namespace liger::server
