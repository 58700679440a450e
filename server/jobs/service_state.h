#ifndef LIGER_SERVER_JOBS_SERVICE_STATE_H_
#define LIGER_SERVER_JOBS_SERVICE_STATE_H_

#include <utility>

#include "server/jobs/dry_runs.h"
#include "server/jobs/fleet_gate.h"
#include "server/jobs/job_service.h"
#include "server/jobs/looks.h"
#include "server/jobs/worker_directory.h"
#include "server/jobs/worker_health.h"

namespace liger::server {

// What the parts of the job logic share. Each of their callbacks under way in
// the store holds it, so it outlives the service by as much as they do.
struct ServiceState {
  explicit ServiceState(JobServiceOptions service_options) : options(std::move(service_options)) {}

  const JobServiceOptions options;
  FleetGate fleet;
  WorkerDirectory workers;
  WorkerHealth health;
  DryRuns dry_runs;
  Looks looks;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_SERVICE_STATE_H_
