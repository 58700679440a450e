#ifndef LIGER_SERVER_AUTH_CREDENTIALS_H_
#define LIGER_SERVER_AUTH_CREDENTIALS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/security/server_credentials.h"

namespace liger::server {

// How a port is secured. All empty: plaintext.
struct TransportSecurity {
  std::string tls_cert;       // PEM file, leaf first
  std::string tls_key;        // PEM file
  std::string tls_client_ca;  // PEM file; when set, clients must present a certificate
  bool insecure = false;      // allow plaintext on addresses other than loopback

  bool tls() const { return !tls_cert.empty() || !tls_key.empty() || !tls_client_ca.empty(); }
};

// Credentials for one listening address ("host:port", "[::1]:0",
// "unix:/path"). Both ports of the coordinator use this one function.
// Errors name the flag or the file: INVALID_ARGUMENT when certificate and key
// do not belong together or one is missing, NOT_FOUND for unreadable files,
// FAILED_PRECONDITION for plaintext on an address other machines can reach.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TransportSecurity& security, const std::string& address);

// Plaintext needs `insecure` anywhere but here. Used for the metrics port too.
absl::Status CheckPlaintextAddress(const std::string& address, bool insecure);

}  // namespace liger::server

#endif  // LIGER_SERVER_AUTH_CREDENTIALS_H_
