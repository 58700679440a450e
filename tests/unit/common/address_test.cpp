#include "common/address.h"

#include <gtest/gtest.h>

namespace liger {
namespace {

TEST(IsLoopbackTest, KnowsLoopbackFromTheRest) {
  for (const char* address : {"127.0.0.1:80", "127.1.2.3:0", "[::1]:80", "localhost:1",
                              "unix:/tmp/x", "unix-abstract:x"}) {
    EXPECT_TRUE(IsLoopback(address)) << address;
  }
  for (const char* address : {"0.0.0.0:80", "[::]:80", "10.0.0.1:80", "example.org:80", "*:80",
                              "128.0.0.1:1", "localhost.example.org:1", "127.example.org:80"}) {
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
}

TEST(IsAddressTest, WantsHostAndPort) {
  for (const char* address : {"127.0.0.1:80", "[::1]:80", "localhost:1", "gpu-box.lab:65535",
                              "unix:/tmp/x", "dns:///gpu-box:7070"}) {
    EXPECT_TRUE(IsAddress(address)) << address;
  }
  for (const char* address : {"", "nonsense", "host:", ":80", "host:port", "host:0", "host:65536",
                              "::1:80", "http://host:80", "two words:80"}) {
    EXPECT_FALSE(IsAddress(address)) << address;
  }
}

}  // namespace
}  // namespace liger
