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

}  // namespace
}  // namespace liger
