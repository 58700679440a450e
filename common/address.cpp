#include "common/address.h"

#include <arpa/inet.h>

#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"

namespace liger {
namespace {

// "host" of "host:port", without the brackets of an IPv6 literal.
std::string HostOf(std::string_view address) {
  std::string_view host = address.substr(0, address.rfind(':'));
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return std::string(host);
}

}  // namespace

bool IsAddress(const std::string& address) {
  for (const char* scheme : {"unix:", "unix-abstract:", "dns:"}) {
    if (absl::StartsWith(address, scheme)) return true;
  }
  const size_t colon = address.rfind(':');
  if (colon == 0 || colon == address.npos) return false;
  const bool literal = address[0] == '[' && address[colon - 1] == ']';
  if (!literal && address.find_first_of(":/ ") != colon) return false;
  int port = 0;
  return absl::SimpleAtoi(address.substr(colon + 1), &port) && port > 0 && port <= 65535;
}

bool IsLoopback(const std::string& address) {
  if (absl::StartsWith(address, "unix:") || absl::StartsWith(address, "unix-abstract:")) {
    return true;
  }
  const std::string host = HostOf(address);
  if (host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace liger
