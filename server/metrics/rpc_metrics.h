#ifndef LIGER_SERVER_METRICS_RPC_METRICS_H_
#define LIGER_SERVER_METRICS_RPC_METRICS_H_

#include "grpcpp/support/server_interceptor.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace liger::server {

// Counts every RPC and times the unary ones, under the names that gRPC's
// Prometheus interceptors of other languages use:
//   grpc_server_handled_total{grpc_type,grpc_service,grpc_method,grpc_code}
//   grpc_server_handling_seconds{grpc_service,grpc_method}
class RpcMetrics {
 public:
  explicit RpcMetrics(prometheus::Registry* registry);

  // `full_method` is "/package.Service/Method".
  void Record(const char* full_method, grpc::experimental::ServerRpcInfo::Type type,
              grpc::StatusCode code, double seconds);

 private:
  prometheus::Family<prometheus::Counter>& handled_;
  prometheus::Family<prometheus::Histogram>& seconds_;
};

// Installed on a server's builder; `metrics` must outlive the server.
class RpcMetricsInterceptorFactory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit RpcMetricsInterceptorFactory(RpcMetrics* metrics) : metrics_(metrics) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override;

 private:
  RpcMetrics* metrics_;
};

// The name of a status code as Prometheus labels have it: "OK", "NotFound", ...
const char* CodeName(grpc::StatusCode code);

}  // namespace liger::server

#endif  // LIGER_SERVER_METRICS_RPC_METRICS_H_
