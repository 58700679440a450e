#ifndef LIGER_SERVER_AUTH_PRINCIPAL_H_
#define LIGER_SERVER_AUTH_PRINCIPAL_H_

#include <string>

#include "grpcpp/server_context.h"

namespace liger::server {

// Who calls. Every handler receives one; roles and tokens will fill it from
// more than the certificate without a change to the handlers.
struct Principal {
  std::string tenant = "default";
  // Common name of the client's certificate; "anonymous" without one.
  std::string name = "anonymous";
};

Principal PrincipalOf(const grpc::ServerContextBase& context);

}  // namespace liger::server

#endif  // LIGER_SERVER_AUTH_PRINCIPAL_H_
