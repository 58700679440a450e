// The outage of docs/protocol.md's failure table as it says: 30 s, with the
// lease terms of production.
#include <gtest/gtest.h>

#include "tests/e2e/expectations.h"

namespace liger::e2e {
namespace {

TEST(OutageTest, CoordinatorKilledAndDownForThirtySeconds) {
  ExpectAdoptionAfterOutage({.workers = 2, .heartbeat = 2, .fence = 15, .reassign = 20},
                            absl::Seconds(30));
}

}  // namespace
}  // namespace liger::e2e
