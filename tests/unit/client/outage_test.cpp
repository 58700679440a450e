#include "client/outage.h"

#include <gtest/gtest.h>

#include "client/errors.h"

namespace liger::client {
namespace {

class OutageTest : public testing::Test {
 protected:
  // A stream that took that long, and the pause behind it.
  bool Fails(absl::Duration life, bool heard) {
    const absl::Time began = now_;
    now_ += life;
    const bool give_up = outage_.StreamFailed(began, heard, now_);
    now_ += absl::Milliseconds(300);
    return give_up;
  }

  absl::Time now_ = absl::UnixEpoch();
  Outage outage_;
};

TEST_F(OutageTest, TheClockStartsAtTheFirstStreamThatFails) {
  EXPECT_FALSE(Fails(absl::Hours(3), true)) << "silent for long, then a restart";
  absl::Duration away;
  while (!Fails(absl::Seconds(1), false)) away += absl::Milliseconds(1300);
  EXPECT_GT(away, absl::Seconds(117));
  EXPECT_LT(away, absl::Seconds(123));
}

TEST_F(OutageTest, AStreamThatConnectsResetsIt) {
  EXPECT_FALSE(Fails(absl::Seconds(1), true));
  for (int i = 0; i < 80; ++i) EXPECT_FALSE(Fails(absl::Seconds(1), false)) << i;
  EXPECT_FALSE(Fails(absl::Milliseconds(1), true)) << "one word was heard";
  for (int i = 0; i < 80; ++i) EXPECT_FALSE(Fails(absl::Seconds(1), false)) << i;
  EXPECT_FALSE(Fails(absl::Minutes(10), false)) << "connected, and nothing to say";
  for (int i = 0; i < 80; ++i) EXPECT_FALSE(Fails(absl::Seconds(1), false)) << i;
}

TEST(MayAnswerLaterTest, NotWhereTheAddressOrTheCertificatesRuleItOut) {
  const auto away = [](const char* message) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, message);
  };
  EXPECT_TRUE(MayAnswerLater(away("failed to connect to all addresses; last error: UNKNOWN: "
                                  "ipv4:127.0.0.1:1: Failed to connect to remote host: "
                                  "Connection refused")));
  EXPECT_FALSE(MayAnswerLater(away("DNS resolution failed for gpu-bx:7070: C-ares status is not "
                                   "ARES_SUCCESS qtype=A name=gpu-bx is_balancer=0: Domain name "
                                   "not found")));
  EXPECT_FALSE(MayAnswerLater(away("failed to connect to all addresses; last error: UNKNOWN: "
                                   "ipv4:127.0.0.1:1: Ssl handshake failed: SSL_ERROR_SSL: "
                                   "error:1000007d:SSL routines:OPENSSL_internal:"
                                   "CERTIFICATE_VERIFY_FAILED")));
}

}  // namespace
}  // namespace liger::client
