#ifndef LIGER_COMMON_TLS_H_
#define LIGER_COMMON_TLS_H_

#include <string>

#include "absl/status/status.h"

namespace liger {

// A PEM file as its flag named it.
struct PemFile {
  std::string flag;  // "--tls-cert"
  std::string path;
  std::string pem;
};

// INVALID_ARGUMENT, naming flag and file, unless it holds a certificate.
absl::Status CheckCertificate(const PemFile& file);

// INVALID_ARGUMENT, naming flag and file, unless the first holds a certificate and the
// second its key without a pass phrase. gRPC itself only fails to connect or to bind.
absl::Status CheckKeyPair(const PemFile& certificate, const PemFile& key);

// What a failure to connect, as gRPC tells it, says of TLS, and what to do about it by
// the flags --tls-ca, --tls-cert and --tls-key. Empty: it says nothing of TLS.
std::string TlsAdvice(const std::string& error);

}  // namespace liger

#endif  // LIGER_COMMON_TLS_H_
