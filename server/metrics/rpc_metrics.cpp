#include "server/metrics/rpc_metrics.h"

#include <string>
#include <utility>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/clock.h"

namespace liger::server {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::ServerRpcInfo;

const prometheus::Histogram::BucketBoundaries& LatencyBuckets() {
  static const auto& buckets = *new prometheus::Histogram::BucketBoundaries{
      0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
  return buckets;
}

const char* TypeName(ServerRpcInfo::Type type) {
  switch (type) {
    case ServerRpcInfo::Type::UNARY:
      return "unary";
    case ServerRpcInfo::Type::CLIENT_STREAMING:
      return "client_stream";
    case ServerRpcInfo::Type::SERVER_STREAMING:
      return "server_stream";
    case ServerRpcInfo::Type::BIDI_STREAMING:
      return "bidi_stream";
  }
  return "unknown";
}

class RpcMetricsInterceptor : public grpc::experimental::Interceptor {
 public:
  RpcMetricsInterceptor(RpcMetrics* metrics, ServerRpcInfo* info)
      : metrics_(metrics), info_(info), start_(Clock::Real()->Elapsed()) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      metrics_->Record(info_->method(), info_->type(), methods->GetSendStatus().error_code(),
                       absl::ToDoubleSeconds(Clock::Real()->Elapsed() - start_));
    }
    methods->Proceed();
  }

 private:
  RpcMetrics* const metrics_;
  ServerRpcInfo* const info_;
  const absl::Duration start_;
};

}  // namespace

const char* CodeName(grpc::StatusCode code) {
  static constexpr const char* kNames[] = {
      "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
      "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
      "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
      "DataLoss", "Unauthenticated"};
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : "Unknown";
}

RpcMetrics::RpcMetrics(prometheus::Registry* registry)
    : handled_(prometheus::BuildCounter()
                   .Name("grpc_server_handled_total")
                   .Help("RPCs completed, by status code.")
                   .Register(*registry)),
      seconds_(prometheus::BuildHistogram()
                   .Name("grpc_server_handling_seconds")
                   .Help("Time from receiving a unary RPC to sending its status.")
                   .Register(*registry)) {}

void RpcMetrics::Record(const char* full_method, ServerRpcInfo::Type type, grpc::StatusCode code,
                        double seconds) {
  const std::pair<std::string, std::string> name =
      absl::StrSplit(absl::StripPrefix(full_method, "/"), absl::MaxSplits('/', 1));
  const prometheus::Labels labels = {{"grpc_service", name.first}, {"grpc_method", name.second}};
  prometheus::Labels handled = labels;
  handled["grpc_type"] = TypeName(type);
  handled["grpc_code"] = CodeName(code);
  handled_.Add(handled).Increment();
  if (type == ServerRpcInfo::Type::UNARY) {
    seconds_.Add(labels, LatencyBuckets()).Observe(seconds);
  }
}

grpc::experimental::Interceptor* RpcMetricsInterceptorFactory::CreateServerInterceptor(
    ServerRpcInfo* info) {
  return new RpcMetricsInterceptor(metrics_, info);
}

}  // namespace liger::server
