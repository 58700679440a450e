#ifndef LIGER_SERVER_COORDINATOR_OPTIONS_H_
#define LIGER_SERVER_COORDINATOR_OPTIONS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/auth/credentials.h"
#include "server/fleet/lease.h"
#include "server/jobs/job_service.h"
#include "server/store/store.h"

namespace liger::server {

// liger-coordinator's settings, by flag (flags.cpp has the help texts).
struct CoordinatorOptions {
  std::string data_dir;
  std::string listen = "127.0.0.1:7070";
  std::string worker_listen = "127.0.0.1:7071";
  std::string metrics_listen = "127.0.0.1:7072";  // empty: no metrics
  std::string catalog_file;                       // empty: the one compiled in
  std::string ports_file;                         // empty: none
  TransportSecurity security;                     // of both gRPC ports
  LeaseTerms lease;
  absl::Duration prepare_timeout = absl::Seconds(60);
  JobServiceOptions jobs;
  StoreOptions store;
  absl::Duration metrics_flush_interval = absl::Seconds(5);

  // What can be said without opening anything. INVALID_ARGUMENT or
  // FAILED_PRECONDITION, naming the flag.
  absl::Status Validate() const;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_COORDINATOR_OPTIONS_H_
