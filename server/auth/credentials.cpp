#include "server/auth/credentials.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/address.h"
#include "common/tls.h"

namespace liger::server {
namespace {

absl::StatusOr<std::string> ReadPem(absl::string_view flag, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    return absl::NotFoundError(absl::StrCat(flag, ": cannot read ", path, ": ", strerror(errno)));
  }
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeTls(
    const TransportSecurity& security) {
  if (security.tls_cert.empty() || security.tls_key.empty()) {
    return absl::InvalidArgumentError(
        "TLS needs both --tls-cert and --tls-key (and optionally --tls-client-ca)");
  }
  absl::StatusOr<std::string> cert = ReadPem("--tls-cert", security.tls_cert);
  if (!cert.ok()) return cert.status();
  absl::StatusOr<std::string> key = ReadPem("--tls-key", security.tls_key);
  if (!key.ok()) return key.status();
  // gRPC reports a bad pair only as a failed bind.
  const absl::Status pair = CheckKeyPair({"--tls-cert", security.tls_cert, *cert},
                                         {"--tls-key", security.tls_key, *key});
  if (!pair.ok()) return pair;

  const bool mutual = !security.tls_client_ca.empty();
  grpc::SslServerCredentialsOptions options(
      mutual ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
             : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  options.pem_key_cert_pairs.push_back({*key, *cert});
  if (mutual) {
    absl::StatusOr<std::string> ca = ReadPem("--tls-client-ca", security.tls_client_ca);
    if (!ca.ok()) return ca.status();
    const absl::Status checked =
        CheckCertificate({"--tls-client-ca", security.tls_client_ca, *ca});
    if (!checked.ok()) return checked;
    options.pem_root_certs = *ca;
  }
  return grpc::SslServerCredentials(options);
}

}  // namespace

absl::Status CheckPlaintextAddress(const std::string& address, bool insecure) {
  if (insecure || IsLoopback(address)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "refusing to serve plaintext on ", address,
      ", which other machines can reach: give --tls-cert and --tls-key, listen on 127.0.0.1, "
      "or accept the risk with --insecure"));
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TransportSecurity& security, const std::string& address) {
  if (security.tls()) return MakeTls(security);
  if (absl::Status status = CheckPlaintextAddress(address, security.insecure); !status.ok()) {
    return status;
  }
  return grpc::InsecureServerCredentials();
}

}  // namespace liger::server
