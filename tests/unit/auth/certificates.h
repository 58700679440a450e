#ifndef LIGER_TESTS_UNIT_AUTH_CERTIFICATES_H_
#define LIGER_TESTS_UNIT_AUTH_CERTIFICATES_H_

#include <string>

namespace liger::testing {

// A self-signed certificate made for one test; it is its own CA.
struct Certificate {
  std::string cert_pem;
  std::string key_pem;
};

// Valid for an hour, for "localhost" and 127.0.0.1.
Certificate MakeSelfSigned(const std::string& common_name);

// Writes `content` to a new file in `dir` and returns its path.
std::string WriteTemp(const std::string& dir, const std::string& name, const std::string& content);

}  // namespace liger::testing

#endif  // LIGER_TESTS_UNIT_AUTH_CERTIFICATES_H_
