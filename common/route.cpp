#include "common/route.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>

#include "common/address.h"
#include "common/unique_fd.h"

namespace liger {
namespace {

std::optional<std::string> Digits(const sockaddr* address, socklen_t size) {
  char text[NI_MAXHOST];
  if (getnameinfo(address, size, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) {
    return std::nullopt;
  }
  return text;
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// getaddrinfo's error, 0 for none.
int Resolve(const std::string& host, int port, int type, Addresses* addresses) {
  addrinfo hints = {};
  hints.ai_socktype = type;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error == 0) addresses->reset(found);
  return error;
}

// errno's, 0 once it is connected.
int ConnectTo(const addrinfo& to, std::chrono::milliseconds limit) {
  const UniqueFd fd(socket(to.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return errno;
  if (connect(fd.get(), to.ai_addr, to.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd connected{fd.get(), POLLOUT, 0};
  if (poll(&connected, 1, static_cast<int>(limit.count())) != 1) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof(error);
  return getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

// Connecting a datagram socket chooses its own address, and sends no packet.
std::optional<Route> RouteBy(const addrinfo& to) {
  const UniqueFd fd(socket(to.ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage own = {};
  socklen_t size = sizeof(own);
  auto* generic = reinterpret_cast<sockaddr*>(&own);
  if (!fd.valid() || connect(fd.get(), to.ai_addr, to.ai_addrlen) != 0 ||
      getsockname(fd.get(), generic, &size) != 0) {
    return std::nullopt;
  }
  std::optional<std::string> from = Digits(generic, size);
  std::optional<std::string> peer = Digits(to.ai_addr, to.ai_addrlen);
  if (!from || !peer) return std::nullopt;
  return Route{*std::move(from), *std::move(peer)};
}

}  // namespace

bool Route::here() const { return own == peer || IsLoopbackHost(own); }

std::optional<Route> RouteTo(const std::string& host) {
  constexpr int kAnyPort = 9;
  Addresses addresses(nullptr, &freeaddrinfo);
  if (Resolve(host, kAnyPort, SOCK_DGRAM, &addresses) != 0) return std::nullopt;
  for (const addrinfo* to = addresses.get(); to != nullptr; to = to->ai_next) {
    if (std::optional<Route> route = RouteBy(*to)) return route;
  }
  return std::nullopt;
}

std::string WhyNotConnected(const std::string& host, int port, std::chrono::milliseconds limit) {
  Addresses addresses(nullptr, &freeaddrinfo);
  const int unknown = Resolve(host, port, SOCK_STREAM, &addresses);
  if (unknown != 0) return gai_strerror(unknown);
  int error = EHOSTUNREACH;
  for (const addrinfo* to = addresses.get(); to != nullptr; to = to->ai_next) {
    error = ConnectTo(*to, limit);
    if (error == 0) return "";
  }
  return strerror(error);
}

std::optional<std::string> AddressOfInterface(const std::string& interface) {
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return std::nullopt;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> list(found, &freeifaddrs);
  std::optional<std::string> v6;
  for (const ifaddrs* entry = found; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || interface != entry->ifa_name) continue;
    if (entry->ifa_addr->sa_family == AF_INET) return Digits(entry->ifa_addr, sizeof(sockaddr_in));
    if (entry->ifa_addr->sa_family != AF_INET6 || v6) continue;
    const auto* address = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
    // Those of one link mean nothing on another host.
    if (IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr)) continue;
    v6 = Digits(entry->ifa_addr, sizeof(sockaddr_in6));
  }
  return v6;
}

}  // namespace liger
