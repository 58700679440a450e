#ifndef LIGER_SERVER_COORDINATOR_HEALTH_H_
#define LIGER_SERVER_COORDINATOR_HEALTH_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace liger::server {

// Where and how to ask a gRPC port for its health.
struct HealthQuery {
  std::string address = "127.0.0.1:7070";
  std::string service;  // "": the port is open; kReadinessService
  std::string tls_ca, tls_cert, tls_key;
  std::string tls_name;  // that the certificate has, where it is not the address's
  absl::Duration timeout = absl::Seconds(5);
};

// grpc.health.v1.Health.Check, for probes in images that hold no other tool.
// UNAVAILABLE unless the answer is SERVING; NOT_FOUND or INVALID_ARGUMENT for a
// file of TLS.
absl::Status CheckHealth(const HealthQuery& query);

}  // namespace liger::server

#endif  // LIGER_SERVER_COORDINATOR_HEALTH_H_
