#include "server/auth/credentials.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/auth/certificates.h"

namespace liger::server {
namespace {

using liger::testing::Certificate;
using liger::testing::MakeSelfSigned;
using liger::testing::WriteTemp;
using ::testing::HasSubstr;

TEST(CredentialsTest, PlaintextOnAReachableAddressNeedsInsecure) {
  TransportSecurity security;
  const auto refused = MakeServerCredentials(security, "0.0.0.0:7000");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--insecure"));
  EXPECT_TRUE(MakeServerCredentials(security, "127.0.0.1:7000").ok());
  security.insecure = true;
  EXPECT_TRUE(MakeServerCredentials(security, "0.0.0.0:7000").ok());
}

class TlsFilesTest : public ::testing::Test {
 protected:
  std::string Message(const TransportSecurity& security) {
    return std::string(MakeServerCredentials(security, "0.0.0.0:1").status().message());
  }

  const std::string dir_ = ::testing::TempDir();
  const Certificate own_ = MakeSelfSigned("server");
  const std::string cert_ = WriteTemp(dir_, "cert.pem", own_.cert_pem);
  const std::string key_ = WriteTemp(dir_, "key.pem", own_.key_pem);
};

TEST_F(TlsFilesTest, AcceptsAMatchingPairAndAClientCa) {
  EXPECT_TRUE(MakeServerCredentials({cert_, key_, "", false}, "0.0.0.0:1").ok());
  EXPECT_TRUE(MakeServerCredentials({cert_, key_, cert_, false}, "0.0.0.0:1").ok());
}

TEST_F(TlsFilesTest, NamesTheFlagAndFileThatAreWrong) {
  const std::string other = WriteTemp(dir_, "other.pem", MakeSelfSigned("other").key_pem);
  const std::string junk = WriteTemp(dir_, "junk.pem", "not a certificate");
  EXPECT_THAT(Message({cert_, "", "", false}), HasSubstr("--tls-key"));
  EXPECT_THAT(Message({cert_, other, "", false}), HasSubstr("does not belong"));
  EXPECT_THAT(Message({junk, key_, "", false}), HasSubstr("--tls-cert: " + junk));
  EXPECT_THAT(Message({cert_, junk, "", false}), HasSubstr("--tls-key: " + junk));
  EXPECT_THAT(Message({cert_, key_, junk, false}), HasSubstr("--tls-client-ca: " + junk));
  EXPECT_THAT(Message({dir_ + "/absent.pem", key_, "", false}), HasSubstr("absent.pem"));
  // A CA alone must not fall back to plaintext.
  EXPECT_THAT(Message({"", "", cert_, false}), HasSubstr("--tls-cert"));
}

}  // namespace
}  // namespace liger::server
