#ifndef LIGER_COMMON_ADDRESS_H_
#define LIGER_COMMON_ADDRESS_H_

#include <string>

namespace liger {

// True for 127.0.0.0/8, ::1, localhost and Unix sockets, of "host:port",
// "[::1]:0" or "unix:/path": what only this machine can reach.
bool IsLoopback(const std::string& address);

// "host:port" with a port from 1 to 65535, an IPv6 literal in brackets, or a
// name that gRPC has a scheme for ("unix:/path", "dns:...").
bool IsAddress(const std::string& address);

}  // namespace liger

#endif  // LIGER_COMMON_ADDRESS_H_
