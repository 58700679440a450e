#ifndef LIGER_SERVER_JOBS_FAILURE_POLICY_H_
#define LIGER_SERVER_JOBS_FAILURE_POLICY_H_

#include "liger/trainer/v1/trainer.pb.h"
#include "liger/worker/v1/worker.pb.h"
#include "server/catalog/catalog.h"
#include "server/store/commands.h"

// What failures lead to (docs/protocol.md). Pure functions.
namespace liger::server {

// Loss of infrastructure (killed process, lost worker, hang) may pass when the
// job runs again; bad data, NaN, out of memory and bad config would fail again.
bool WorthRetrying(liger::v1::FailureClass failure_class);

// A task's end as the store records it. The failure always has a message, and an action but for
// memory that ran out: what to do about that the store says, which knows the job.
TaskExit ClassifyExit(const liger::worker::v1::Exited& exited);

// The violations of a CHECK as the job's failure: DATA when the first is about
// data, else CONFIG. REQUIRES: result.violations is not empty.
liger::v1::Failure CheckFailure(const liger::trainer::v1::CheckResult& result);

// Where a task says that the path dataset.eval_uri does not exist, adds the catalog's names that
// are near it: only the coordinator knows them.
void AddNearDatasets(const Catalog& catalog, liger::worker::v1::TaskEvent* event);

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_FAILURE_POLICY_H_
