#include "common/tls.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <initializer_list>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace liger {
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

BioPtr Open(const std::string& pem) {
  return BioPtr(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

CertPtr ReadCertificate(const std::string& pem) {
  return CertPtr(PEM_read_bio_X509(Open(pem).get(), nullptr, nullptr, nullptr));
}

bool HasAnyOf(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    if (absl::StrContains(text, part)) return true;
  }
  return false;
}

}  // namespace

absl::Status CheckCertificate(const PemFile& file) {
  if (ReadCertificate(file.pem) != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file.flag, ": ", file.path, " holds no PEM certificate"));
}

absl::Status CheckKeyPair(const PemFile& certificate, const PemFile& key) {
  if (absl::Status s = CheckCertificate(certificate); !s.ok()) return s;
  const CertPtr parsed = ReadCertificate(certificate.pem);
  // An empty pass phrase instead of a prompt on the terminal.
  const KeyPtr parsed_key(PEM_read_bio_PrivateKey(Open(key.pem).get(), nullptr, nullptr,
                                                  const_cast<char*>("")));
  if (parsed_key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(key.flag, ": ", key.path, " holds no unencrypted PEM private key"));
  }
  if (X509_check_private_key(parsed.get(), parsed_key.get()) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        key.flag, ": ", key.path, " does not belong to the certificate in ", certificate.path));
  }
  return absl::OkStatus();
}

std::string TlsAdvice(const std::string& error) {
  if (HasAnyOf(error, {"wrong version number", "WRONG_VERSION_NUMBER"})) {
    return "the port speaks plaintext, not TLS: leave --tls-ca, --tls-cert and --tls-key out";
  }
  if (HasAnyOf(error, {"certificate verify failed", "CERTIFICATE_VERIFY_FAILED"})) {
    return "its certificate is not of the CA that is trusted here: give the CA that signed it with "
           "--tls-ca";
  }
  if (HasAnyOf(error, {"Peer name", "Hostname Verification"})) {
    return "its certificate is for another name: use an address that the certificate names";
  }
  if (HasAnyOf(error, {"Ssl handshake", "SSL_ERROR", "TSI_", "handshake failed"})) {
    return "the TLS handshake failed: look at --tls-ca, --tls-cert and --tls-key";
  }
  // A connection that was once there may break like this, too.
  const bool refused = HasAnyOf(error, {"failed to connect"}) &&
                       HasAnyOf(error, {"Socket closed", "Connection reset"});
  if (!refused) return "";
  return "something listens there and closes such connections: if it speaks TLS, give --tls-ca, "
         "and where it asks for a client certificate --tls-cert and --tls-key of one that it "
         "trusts";
}

}  // namespace liger
