#include "server/auth/credentials.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/address.h"

namespace liger::server {
namespace {

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* p) const {
    Free(p);
  }
};
using BioPtr = std::unique_ptr<BIO, Deleter<BIO_free_all>>;
using CertPtr = std::unique_ptr<X509, Deleter<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;

absl::StatusOr<std::string> ReadPem(absl::string_view flag, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    return absl::NotFoundError(absl::StrCat(flag, ": cannot read ", path, ": ", strerror(errno)));
  }
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

absl::StatusOr<CertPtr> ParseCert(absl::string_view flag, const std::string& path,
                                  const std::string& pem) {
  BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  CertPtr cert(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (cert == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": ", path, " holds no PEM certificate"));
  }
  return cert;
}

// gRPC reports a bad pair only as a failed bind, so it is looked at here.
absl::Status CheckPair(const TransportSecurity& security, const std::string& cert_pem,
                       const std::string& key_pem) {
  absl::StatusOr<CertPtr> cert = ParseCert("--tls-cert", security.tls_cert, cert_pem);
  if (!cert.ok()) return cert.status();
  BioPtr bio(BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size())));
  // An empty pass phrase instead of a prompt on the terminal.
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, const_cast<char*>("")));
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("--tls-key: ", security.tls_key, " holds no unencrypted PEM private key"));
  }
  if (X509_check_private_key(cert->get(), key.get()) != 1) {
    return absl::InvalidArgumentError(absl::StrCat("--tls-key: ", security.tls_key,
                                                   " does not belong to the certificate in ",
                                                   security.tls_cert));
  }
  return absl::OkStatus();
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
  if (absl::Status status = CheckPair(security, *cert, *key); !status.ok()) return status;

  const bool mutual = !security.tls_client_ca.empty();
  grpc::SslServerCredentialsOptions options(
      mutual ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
             : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  options.pem_key_cert_pairs.push_back({*key, *cert});
  if (mutual) {
    absl::StatusOr<std::string> ca = ReadPem("--tls-client-ca", security.tls_client_ca);
    if (!ca.ok()) return ca.status();
    absl::StatusOr<CertPtr> parsed = ParseCert("--tls-client-ca", security.tls_client_ca, *ca);
    if (!parsed.ok()) return parsed.status();
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
