#ifndef LIGER_COMMON_ROUTE_H_
#define LIGER_COMMON_ROUTE_H_

#include <chrono>
#include <optional>
#include <string>

// How this host is reached by others: addresses in digits. Nothing is sent to find them out.
namespace liger {

struct Route {
  std::string own;   // from which this host sends
  std::string peer;  // the first address of the other's that there is a way to

  // Whether both ends are this host.
  bool here() const;
};
// nullopt: the host's name has no address, or there is no way to any.
std::optional<Route> RouteTo(const std::string& host);

// Empty once something has accepted a connection there, which is closed at once; else why not, in
// the system's words.
std::string WhyNotConnected(const std::string& host, int port, std::chrono::milliseconds limit);

// One of the network interface's, IPv4 where it has one; nullopt: it has none, or is not there.
std::optional<std::string> AddressOfInterface(const std::string& interface);

}  // namespace liger

#endif  // LIGER_COMMON_ROUTE_H_
