#include "worker/agent/channel.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "common/address.h"
#include "common/file.h"
#include "common/tls.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

namespace liger::agent {
namespace {

absl::Status ReadInto(const std::string& path, std::string& out) {
  if (path.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> bytes = ReadFile(path, 1 << 20);
  if (!bytes.ok()) return bytes.status();
  out = *std::move(bytes);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const Options& options) {
  const bool tls = !options.tls_ca.empty() || !options.tls_cert.empty();
  if (!tls) {
    if (IsLoopback(options.coordinator) || options.insecure) {
      return grpc::InsecureChannelCredentials();
    }
    return absl::FailedPreconditionError(
        absl::StrCat("the coordinator at ", options.coordinator,
                     " is not on loopback: give "
                     "--tls-ca (with --tls-cert and --tls-key), or --insecure for plaintext"));
  }
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key belong together");
  }
  grpc::SslCredentialsOptions ssl;
  if (absl::Status s = ReadInto(options.tls_ca, ssl.pem_root_certs); !s.ok()) return s;
  if (absl::Status s = ReadInto(options.tls_cert, ssl.pem_cert_chain); !s.ok()) return s;
  if (absl::Status s = ReadInto(options.tls_key, ssl.pem_private_key); !s.ok()) return s;
  if (!options.tls_ca.empty()) {
    const absl::Status ca = CheckCertificate({"--tls-ca", options.tls_ca, ssl.pem_root_certs});
    if (!ca.ok()) return ca;
  }
  if (!options.tls_cert.empty()) {
    const absl::Status pair = CheckKeyPair({"--tls-cert", options.tls_cert, ssl.pem_cert_chain},
                                           {"--tls-key", options.tls_key, ssl.pem_private_key});
    if (!pair.ok()) return pair;
  }
  return grpc::SslCredentials(ssl);
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const Options& options) {
  auto credentials = MakeCredentials(options);
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  // The session has its own back-off, bounded by the lease; gRPC's, which comes
  // on top of it, grows to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // What gRPC calls so is how long one attempt to connect may take.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 3000);
  // A peer that vanished without a word (power, a cable, a firewall) is noticed
  // before the lease ends. The coordinator allows a ping every 5 s.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 7000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // no limit
  return grpc::CreateCustomChannel(options.coordinator, *credentials, arguments);
}

}  // namespace liger::agent
