#ifndef LIGER_SERVER_RPC_GRPC_SERVER_H_
#define LIGER_SERVER_RPC_GRPC_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"
#include "server/auth/credentials.h"
#include "server/metrics/rpc_metrics.h"

namespace liger::server {

struct GrpcServerOptions {
  std::string address;  // "host:port"; port 0 picks a free one
  std::string flag;     // the flag that sets it, for error messages
  TransportSecurity security;
  int max_receive_bytes = 4 << 20;
  RpcMetrics* metrics = nullptr;  // may be null; outlives the server
};

// The name under which grpc.health.v1 answers whether the store can be read;
// "" answers as soon as the port is open.
inline constexpr char kReadinessService[] = "readiness";

// One listening port: services, grpc.health.v1 and server reflection.
class GrpcServer {
 public:
  // `services` outlive the server. UNAVAILABLE when the port is in use: gRPC
  // would share it silently, so SO_REUSEPORT is switched off.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const GrpcServerOptions& options, const std::vector<grpc::Service*>& services);
  ~GrpcServer();

  int port() const { return port_; }
  // The address with the port that was bound.
  const std::string& address() const { return address_; }

  // What health checks of kReadinessService are answered; NOT_FOUND before.
  void SetReady(bool ready);

  // Answers health checks with NOT_SERVING, stops accepting, lets calls run for
  // `grace`, then cancels them. Idempotent.
  void Shutdown(absl::Duration grace);

 private:
  GrpcServer() = default;

  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::string address_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_RPC_GRPC_SERVER_H_
