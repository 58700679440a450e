#include "server/auth/principal.h"

#include "grpc/grpc_security_constants.h"
#include "grpcpp/security/auth_context.h"

namespace liger::server {

Principal PrincipalOf(const grpc::ServerContextBase& context) {
  Principal principal;
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  if (auth == nullptr || !auth->IsPeerAuthenticated()) return principal;
  const auto names = auth->FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME);
  if (!names.empty()) principal.name.assign(names.front().data(), names.front().size());
  return principal;
}

}  // namespace liger::server
