#ifndef LIGER_SERVER_COORDINATOR_COORDINATOR_H_
#define LIGER_SERVER_COORDINATOR_COORDINATOR_H_

#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "prometheus/registry.h"
#include "server/api/change_hub.h"
#include "server/api/experiments_service.h"
#include "server/api/fine_tuning_service.h"
#include "server/api/live_streams.h"
#include "server/catalog/catalog.h"
#include "server/coordinator/metrics_feed.h"
#include "server/coordinator/options.h"
#include "server/experiments/experiment_service.h"
#include "server/fleet/bulk_intake.h"
#include "server/fleet/fleet.h"
#include "server/fleet/fleet_service.h"
#include "server/jobs/job_service.h"
#include "server/logs/log_store.h"
#include "server/metrics/fleet_metrics.h"
#include "server/metrics/job_metrics.h"
#include "server/metrics/metrics_server.h"
#include "server/metrics/rpc_metrics.h"
#include "server/rpc/grpc_server.h"
#include "server/store/store.h"

namespace liger::server {

// The whole coordinator in one object: main runs one, tests run several.
class Coordinator {
 public:
  // Opens the data folder, loads what is known, and serves. Every error is one
  // that its reader can act on: a folder in use, a port in use, a bad file.
  static absl::StatusOr<std::unique_ptr<Coordinator>> Start(const CoordinatorOptions& options);
  // As Start, with the given store in the place of the data folder's database.
  static absl::StatusOr<std::unique_ptr<Coordinator>> StartWith(const CoordinatorOptions& options,
                                                                std::unique_ptr<Store> store);
  // Shuts down.
  ~Coordinator();

  // The addresses with the ports that were bound.
  const std::string& api_address() const { return api_server_->address(); }
  const std::string& worker_address() const { return worker_server_->address(); }
  std::string metrics_address() const;  // empty: none

  // For tests.
  Fleet& fleet() { return *fleet_; }
  Store& store() { return *store_; }

  // Stops accepting, ends streams so that clients come back, stores what is
  // buffered, closes the store. Takes less than 5 s. Idempotent.
  void Shutdown();

 private:
  explicit Coordinator(const CoordinatorOptions& options);

  absl::Status Open(std::unique_ptr<Store> store);
  absl::Status OpenCatalog();
  absl::Status Serve();
  absl::Status WritePortsFile() const;
  void TickLoop() ABSL_LOCKS_EXCLUDED(mutex_);

  const CoordinatorOptions options_;
  const std::shared_ptr<prometheus::Registry> registry_;
  RpcMetrics rpc_metrics_;
  JobMetrics job_metrics_;
  ExperimentMetrics experiment_metrics_;
  FleetMetrics fleet_metrics_;
  Catalog catalog_;
  LogStore logs_;
  ChangeHub hub_;
  LiveStreams streams_;
  Executor files_;

  std::unique_ptr<Store> store_;
  std::unique_ptr<MetricsFeed> feed_;
  std::unique_ptr<JobService> jobs_;
  std::unique_ptr<ExperimentService> experiments_;
  std::unique_ptr<Fleet> fleet_;
  std::unique_ptr<BulkIntake> bulk_;
  std::unique_ptr<FineTuningService> api_service_;
  std::unique_ptr<ExperimentsApi> experiments_api_;
  std::unique_ptr<FleetService> fleet_service_;
  std::unique_ptr<GrpcServer> api_server_;
  std::unique_ptr<GrpcServer> worker_server_;
  std::unique_ptr<MetricsServer> metrics_server_;

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool shut_down_ = false;
  std::thread ticker_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_COORDINATOR_COORDINATOR_H_
