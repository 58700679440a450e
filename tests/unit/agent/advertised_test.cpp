#include "worker/agent/advertised.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/address.h"
#include "common/route.h"

namespace liger::agent {
namespace {

using testing::HasSubstr;

TEST(AdvertisedTest, ACoordinatorOfThisHostIsToldLoopback) {
  for (const char* coordinator : {"127.0.0.1:7071", "localhost:7071", "unix:/run/liger.sock"}) {
    const Advertised advertised = AdvertisedBy({.coordinator = coordinator});
    EXPECT_EQ(advertised.address, "127.0.0.1") << coordinator;
    EXPECT_TRUE(advertised.found);
    EXPECT_EQ(advertised.warning, "");
  }
}

// The address is one of documentation; nothing is sent there.
TEST(AdvertisedTest, ACoordinatorElsewhereIsToldTheAddressTowardsIt) {
  const std::optional<Route> route = RouteTo("203.0.113.1");
  if (!route) GTEST_SKIP() << "this host has no network";
  const Advertised derived = AdvertisedBy({.coordinator = "203.0.113.1:7071"});
  EXPECT_EQ(derived.address, route->own);
  EXPECT_FALSE(IsLoopbackHost(derived.address));
  EXPECT_EQ(derived.warning, "");
  const Advertised loopback =
      AdvertisedBy({.coordinator = "203.0.113.1:7071", .advertise_address = "127.0.0.1"});
  EXPECT_EQ(loopback.address, "127.0.0.1");
  EXPECT_THAT(loopback.warning,
              HasSubstr("--advertise-address 127.0.0.1 is reached from this host"));
  EXPECT_THAT(loopback.warning, HasSubstr(route->own)) << "what it would be without";
}

TEST(AdvertisedTest, WhatIsGivenComesFirstAndThenTheInterface) {
  Options options{.coordinator = "no.such.host.invalid:7071", .socket_interface = "lo"};
  EXPECT_EQ(AdvertisedBy(options).address, "127.0.0.1");
  EXPECT_TRUE(AdvertisedBy(options).found);
  options.advertise_address = "gpu1";
  EXPECT_EQ(AdvertisedBy(options).address, "gpu1");
  EXPECT_EQ(AdvertisedBy(options).warning, "");
}

TEST(AdvertisedTest, AnInterfaceOfLoopbackIsWarnedOf) {
  if (!RouteTo("203.0.113.1")) GTEST_SKIP() << "this host has no network";
  const Advertised loopback =
      AdvertisedBy({.coordinator = "203.0.113.1:7071", .socket_interface = "lo"});
  EXPECT_EQ(loopback.address, "127.0.0.1");
  EXPECT_THAT(loopback.warning,
              HasSubstr("--socket-interface lo (127.0.0.1) is reached from this"));
  EXPECT_EQ(AdvertisedBy({.coordinator = "127.0.0.1:7071", .socket_interface = "lo"}).warning, "");
}

TEST(AdvertisedTest, WhatWasFoundHoldsUntilAnotherIsFound) {
  const Advertised none{.address = "127.0.0.1", .warning = "cannot tell"};
  const Advertised old_one{.address = "10.0.0.5", .found = true};
  const Advertised new_one{.address = "10.0.0.6", .found = true};
  EXPECT_TRUE(Replaces(none, {}));
  EXPECT_FALSE(Replaces(none, none)) << "is told once";
  EXPECT_TRUE(Replaces(old_one, none));
  EXPECT_FALSE(Replaces(none, old_one)) << "as while the name server is away";
  EXPECT_FALSE(Replaces(old_one, old_one));
  EXPECT_TRUE(Replaces(new_one, old_one));
}

TEST(AdvertisedTest, ACoordinatorWithoutAnAddressIsWarnedOf) {
  const Advertised unknown = AdvertisedBy({.coordinator = "no.such.host.invalid:7071"});
  EXPECT_FALSE(unknown.found);
  EXPECT_EQ(unknown.address, "127.0.0.1");
  EXPECT_THAT(unknown.warning, HasSubstr("no.such.host.invalid:7071"));
}

}  // namespace
}  // namespace liger::agent
