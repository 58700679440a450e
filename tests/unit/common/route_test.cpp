#include "common/route.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/address.h"
#include "common/unique_fd.h"

namespace liger {
namespace {

TEST(RouteTest, LoopbackIsReachedFromLoopback) {
  const std::optional<Route> route = RouteTo("127.0.0.1");
  ASSERT_TRUE(route);
  EXPECT_EQ(route->own, "127.0.0.1");
  EXPECT_TRUE(route->here());
  EXPECT_TRUE(RouteTo("127.0.1.1")->here()) << "Debian's address of a host's own name";
  EXPECT_FALSE((Route{"10.0.0.5", "10.0.0.6"}).here());
  EXPECT_TRUE((Route{"10.0.0.5", "10.0.0.5"}).here());
}

TEST(RouteTest, WhatHasNoAddressHasNoRoute) {
  EXPECT_FALSE(RouteTo("no.such.host.invalid"));
  EXPECT_FALSE(AddressOfInterface("none0"));
  EXPECT_FALSE(AddressOfInterface(""));
}

TEST(RouteTest, WhatDoesNotAcceptSaysWhyNot) {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener.get(), generic, size), 0);
  ASSERT_EQ(getsockname(listener.get(), generic, &size), 0);
  const auto why = [&](const std::string& host) {
    return WhyNotConnected(host, ntohs(address.sin_port), std::chrono::seconds(5));
  };
  EXPECT_EQ(why("127.0.0.1"), "Connection refused");
  EXPECT_NE(why("no.such.host.invalid"), "");
  ASSERT_EQ(listen(listener.get(), 1), 0);
  EXPECT_EQ(why("127.0.0.1"), "");
}

TEST(RouteTest, AnInterfaceHasItsAddress) {
  EXPECT_EQ(AddressOfInterface("lo").value_or(""), "127.0.0.1");
}

TEST(HostOfAddressTest, LeavesOutSchemePortAndBrackets) {
  EXPECT_EQ(HostOfAddress("gpu1:7071"), "gpu1");
  EXPECT_EQ(HostOfAddress("[fd00::1]:7071"), "fd00::1");
  EXPECT_EQ(HostOfAddress("dns:///gpu1:7071"), "gpu1");
  EXPECT_EQ(HostOfAddress("ipv4:10.0.0.1:7071,10.0.0.2:7071"), "10.0.0.1");
  EXPECT_EQ(HostOfAddress("unix:/run/liger.sock"), "");
  EXPECT_TRUE(IsLoopbackHost("::1"));
  EXPECT_FALSE(IsLoopbackHost("gpu1"));
  EXPECT_FALSE(IsLoopbackHost(""));
}

}  // namespace
}  // namespace liger
