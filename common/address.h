#ifndef LIGER_COMMON_ADDRESS_H_
#define LIGER_COMMON_ADDRESS_H_

#include <string>

#include "absl/status/status.h"

namespace liger {

// True for 127.0.0.0/8, ::1, localhost and Unix sockets, of an address as below or
// "host:0": what only this machine can reach. Of several addresses, when all are.
bool IsLoopback(const std::string& address);
// The same of a host alone: localhost, or a literal without brackets.
bool IsLoopbackHost(const std::string& host);

// "host" of "host:port" and of the first of several; empty of a Unix socket.
std::string HostOfAddress(const std::string& address);

// "host:port" with a port from 1 to 65535, an IPv6 literal in brackets, or what
// gRPC has a scheme for: "unix:/path", "unix-abstract:name", "dns:host:port" and
// "dns://server/host:port", "ipv4:1.2.3.4:5,..." and "ipv6:[::1]:5,...".
bool IsAddress(const std::string& address);

// OK for what a server may listen on: an address as above, or with port 0. Else
// INVALID_ARGUMENT that names `flag`.
absl::Status CheckListenAddress(const std::string& address, const std::string& flag);

}  // namespace liger

#endif  // LIGER_COMMON_ADDRESS_H_
