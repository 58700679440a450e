#ifndef LIGER_SERVER_METRICS_METRICS_SERVER_H_
#define LIGER_SERVER_METRICS_METRICS_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "prometheus/registry.h"

namespace prometheus {
class Exposer;
}

namespace liger::server {

// Serves a registry in Prometheus' text format at /metrics, over HTTP on a
// port of its own.
class MetricsServer {
 public:
  // `address` is "host:port"; port 0 picks a free one. UNAVAILABLE when the
  // address cannot be bound.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& address, const std::shared_ptr<prometheus::Registry>& registry);
  ~MetricsServer();

  int port() const;

 private:
  explicit MetricsServer(std::unique_ptr<prometheus::Exposer> exposer);

  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_METRICS_METRICS_SERVER_H_
