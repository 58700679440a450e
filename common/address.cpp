#include "common/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace liger {
namespace {

// Takes "scheme:" off, and "//authority/" behind it.
bool ConsumeScheme(std::string_view scheme, std::string_view* address) {
  if (!address->starts_with(scheme)) return false;
  address->remove_prefix(scheme.size());
  if (!address->starts_with("//")) return true;
  const size_t end = address->find('/', 2);
  address->remove_prefix(end == address->npos ? address->size() : end + 1);
  return true;
}

bool IsUnixSocket(std::string_view address) {
  return address.starts_with("unix:") || address.starts_with("unix-abstract:");
}

// What the address leads to: one "host:port", or several of gRPC's ipv4:a:1,b:2.
std::vector<std::string> HostPorts(std::string_view address) {
  if (ConsumeScheme("ipv4:", &address) || ConsumeScheme("ipv6:", &address)) {
    return absl::StrSplit(absl::string_view(address.data(), address.size()), ',');
  }
  ConsumeScheme("dns:", &address);
  return {std::string(address)};
}

// "host" of "host:port", without the brackets and the zone of an IPv6 literal.
std::string HostOf(std::string_view address) {
  std::string_view host = address.substr(0, address.rfind(':'));
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    host = host.substr(0, host.find('%'));
  }
  return std::string(host);
}

bool IsHostPort(const std::string& address, int lowest_port = 1) {
  const size_t colon = address.rfind(':');
  if (colon == 0 || colon == address.npos) return false;
  const bool literal = address[0] == '[' && address[colon - 1] == ']';
  if (!literal && address.find_first_of(":/ ") != colon) return false;
  int port = 0;
  return absl::SimpleAtoi(address.substr(colon + 1), &port) && port >= lowest_port && port <= 65535;
}

bool IsLiteral(int family, const std::string& address) {
  in6_addr parsed;  // the larger of the two
  return IsHostPort(address) && (address[0] == '[') == (family == AF_INET6) &&
         inet_pton(family, HostOf(address).c_str(), &parsed) == 1;
}

}  // namespace

bool IsAddress(const std::string& address) {
  if (IsUnixSocket(address)) return true;
  const std::vector<std::string> targets = HostPorts(address);
  if (absl::StartsWith(address, "dns:")) return !targets[0].empty();  // has a port of its own
  return std::all_of(targets.begin(), targets.end(), [&](const std::string& target) {
    if (absl::StartsWith(address, "ipv4:")) return IsLiteral(AF_INET, target);
    if (absl::StartsWith(address, "ipv6:")) return IsLiteral(AF_INET6, target);
    return IsHostPort(target);
  });
}

absl::Status CheckListenAddress(const std::string& address, const std::string& flag) {
  if (IsUnixSocket(address) || IsHostPort(HostPorts(address)[0], /*lowest_port=*/0)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(flag, " ", address,
                                                 " is no address to listen on: give HOST:PORT with "
                                                 "a port from 0 (any that is free) to 65535"));
}

bool IsLoopbackHost(const std::string& host) {
  if (host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string HostOfAddress(const std::string& address) {
  return IsUnixSocket(address) ? "" : HostOf(HostPorts(address)[0]);
}

bool IsLoopback(const std::string& address) {
  if (IsUnixSocket(address)) return true;
  const std::vector<std::string> targets = HostPorts(address);
  return std::all_of(targets.begin(), targets.end(),
                     [](const std::string& target) { return IsLoopbackHost(HostOf(target)); });
}

}  // namespace liger
