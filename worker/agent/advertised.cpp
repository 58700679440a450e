#include "worker/agent/advertised.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "common/address.h"
#include "common/route.h"

namespace liger::agent {
namespace {

constexpr char kLoopback[] = "127.0.0.1";

// Where the coordinator's address is that of a Unix socket or of loopback, no name is looked up.
std::optional<Route> RouteToCoordinator(const std::string& address) {
  if (IsLoopback(address)) return Route{kLoopback, kLoopback};
  return RouteTo(HostOfAddress(address));
}

// `flag` with its value.
Advertised Given(const std::string& address, const std::string& flag, const Options& options,
                 const std::optional<Route>& route) {
  Advertised given{.address = address, .found = true};
  if (IsLoopbackHost(address) && route && !route->here()) {
    given.warning = absl::StrCat(
        flag, " is reached from this host alone, and the coordinator at ", options.coordinator,
        " is not on it: no job runs on this worker and one of another host together; leave the ",
        "flag out (", route->own, "), or give --advertise-address the one at which other workers ",
        "reach this host");
  }
  return given;
}

}  // namespace

Advertised AdvertisedBy(const Options& options) {
  const std::optional<Route> route = RouteToCoordinator(options.coordinator);
  if (!options.advertise_address.empty()) {
    return Given(options.advertise_address, "--advertise-address " + options.advertise_address,
                 options, route);
  }
  if (const auto own = AddressOfInterface(options.socket_interface)) {
    return Given(*own,
                 absl::StrCat("--socket-interface ", options.socket_interface, " (", *own, ")"),
                 options, route);
  }
  if (route) return {.address = route->own, .found = true};
  return {
      .address = kLoopback,
      .warning = absl::StrCat("cannot tell at which address other workers reach this one, as ",
                              "there is no way to the coordinator's host in ", options.coordinator,
                              " yet: until there is, or --advertise-address gives it, no job ",
                              "runs on this worker and one of another host together")};
}

bool Replaces(const Advertised& derived, const Advertised& held) {
  if (held.found && !derived.found) return false;
  return derived.address != held.address || derived.found != held.found ||
         derived.warning != held.warning;
}

}  // namespace liger::agent
