#include "worker/agent/lease.h"

#include <gtest/gtest.h>

#include "worker/agent/steady_time.h"

namespace liger::agent {
namespace {

class LeaseTest : public testing::Test {
 protected:
  void SetUp() override {
    terms_.set_heartbeat_seconds(2);
    terms_.set_fence_seconds(15);
    terms_.set_orphan_timeout_seconds(1800);
  }
  absl::Time At(double seconds) const { return start_ + absl::Seconds(seconds); }

  worker::v1::Lease terms_;
  const absl::Time start_ = SteadyNow();
  Lease lease_;
};

TEST_F(LeaseTest, IsFencedBeforeTheFirstWelcome) { EXPECT_TRUE(lease_.Fenced(start_)); }

TEST_F(LeaseTest, CountsFromWhenTheHeartbeatWasSentNotWhenItWasAnswered) {
  lease_.Renew(terms_, At(0));
  lease_.HeartbeatSent(1, At(2));
  lease_.HeartbeatAcknowledged(1);  // whenever that is
  EXPECT_FALSE(lease_.Fenced(At(17)));
  EXPECT_TRUE(lease_.Fenced(At(17.001)));
}

TEST_F(LeaseTest, UnacknowledgedHeartbeatsDoNotExtendIt) {
  lease_.Renew(terms_, At(0));
  for (int seq = 1; seq < 10; ++seq) lease_.HeartbeatSent(seq, At(2 * seq));
  EXPECT_TRUE(lease_.Fenced(At(15.001)));
  // A late acknowledgement of an early one gives only what that one is worth.
  lease_.HeartbeatAcknowledged(1);
  EXPECT_TRUE(lease_.Fenced(At(17.001)));
  lease_.HeartbeatAcknowledged(9);
  EXPECT_FALSE(lease_.Fenced(At(17.001)));
  lease_.HeartbeatAcknowledged(3);  // old news
  EXPECT_FALSE(lease_.Fenced(At(33)));
}

TEST_F(LeaseTest, AcknowledgementsOfAnOldSessionAreIgnored) {
  lease_.Renew(terms_, At(0));
  lease_.HeartbeatSent(1, At(10));
  lease_.Renew(terms_, At(5));
  lease_.HeartbeatAcknowledged(1);
  EXPECT_TRUE(lease_.Fenced(At(20.001)));
}

TEST_F(LeaseTest, IsOrphanedAfterTheTimeout) {
  lease_.Renew(terms_, At(0));
  EXPECT_FALSE(lease_.Orphaned(At(1800)));
  EXPECT_TRUE(lease_.Orphaned(At(1801)));
}

TEST_F(LeaseTest, TakesTheTermsOfTheCoordinator) {
  terms_.set_heartbeat_seconds(0.5);
  lease_.Renew(terms_, At(0));
  EXPECT_EQ(lease_.heartbeat_interval(), absl::Seconds(0.5));
  lease_.Renew(worker::v1::Lease(), At(1));  // without terms: those before
  EXPECT_EQ(lease_.heartbeat_interval(), absl::Seconds(0.5));
}

}  // namespace
}  // namespace liger::agent
