#include "common/address.h"

#include <gtest/gtest.h>

namespace liger {
namespace {

TEST(IsLoopbackTest, KnowsLoopbackFromTheRest) {
  for (const char* address :
       {"127.0.0.1:80", "127.1.2.3:0", "[::1]:80", "localhost:1", "unix:/tmp/x", "unix-abstract:x",
        "dns:localhost:80", "dns:///127.0.0.1:80", "dns://8.8.8.8/localhost:80",
        "ipv4:127.0.0.1:80", "ipv4:127.0.0.1:80,127.0.0.2:81", "ipv6:[::1]:80", "[::1%lo]:80"}) {
    EXPECT_TRUE(IsLoopback(address)) << address;
  }
  for (const char* address : {"0.0.0.0:80", "[::]:80", "10.0.0.1:80", "example.org:80", "*:80",
                              "128.0.0.1:1", "localhost.example.org:1", "127.example.org:80",
                              "dns:gpu-box:80", "dns://127.0.0.1/gpu-box:80", "ipv4:10.0.0.1:80",
                              "ipv4:127.0.0.1:80,10.0.0.1:80", "ipv6:[::]:80", "dns:", "ipv4:"}) {
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
}

TEST(IsAddressTest, WantsHostAndPort) {
  for (const char* address :
       {"127.0.0.1:80", "[::1]:80", "localhost:1", "gpu-box.lab:65535", "unix:/tmp/x",
        "dns:///gpu-box:7070", "dns:gpu-box", "ipv4:10.0.0.1:7070",
        "ipv4:10.0.0.1:7070,10.0.0.2:7070", "ipv6:[fe80::1]:7070", "ipv6:[fe80::1%eth0]:7070"}) {
    EXPECT_TRUE(IsAddress(address)) << address;
  }
  for (const char* address : {"", "nonsense", "host:", ":80", "host:port", "host:0", "host:65536",
                              "::1:80", "http://host:80", "two words:80", "dns:", "dns:///",
                              "ipv4:", "ipv4:10.0.0.1", "ipv4:gpu-box:80", "ipv4:[::1]:80",
                              "ipv4:10.0.0.1:80,", "ipv6:::1:80", "ipv6:[nonsense]:80"}) {
    EXPECT_FALSE(IsAddress(address)) << address;
  }
}

TEST(CheckListenAddressTest, PortsFromZeroTo65535) {
  for (const char* address :
       {"127.0.0.1:0", "[::]:65535", "localhost:80", "unix:/tmp/x", "ipv4:10.0.0.1:0"}) {
    EXPECT_TRUE(CheckListenAddress(address, "--listen").ok()) << address;
  }
  for (const char* address : {"", "foo", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:", ":80"}) {
    const absl::Status status = CheckListenAddress(address, "--listen");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_NE(std::string(status.message()).find("--listen"), std::string::npos);
  }
}

}  // namespace
}  // namespace liger
