#ifndef LIGER_SERVER_JOBS_SCHEDULE_LOOP_H_
#define LIGER_SERVER_JOBS_SCHEDULE_LOOP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/catalog/catalog.h"
#include "server/jobs/service_state.h"
#include "server/scheduler/scheduler.h"
#include "server/store/store.h"

namespace liger::server {

// The workers that have no session just now, or drain.
std::set<std::string> Unavailable(const std::vector<WorkerRow>& workers, FleetGate* gate);

// Runs the scheduler over a snapshot and carries out its decisions, one pass at
// a time: a pass ends when its commands are committed, so no two decide over
// the same devices. (The store would refuse the second anyway.) Thread-safe;
// must not be called with a lock that the fleet needs.
class ScheduleLoop : public std::enable_shared_from_this<ScheduleLoop> {
 public:
  ScheduleLoop(Store* store, const Catalog* catalog, std::shared_ptr<ServiceState> state)
      : store_(*store), catalog_(*catalog), state_(std::move(state)) {}

  // Something changed. Returns at once; a pass in progress is followed by another.
  void Request();
  // The worker did not start this job, for the reason in `detail`: it is left
  // alone for a while, longer each time.
  void Exclude(const std::string& job_uid, const std::string& worker_id, const std::string& detail);
  // Jobs' CHECKs on workers, as of the last pass.
  std::vector<TaskRow> RunningChecks() const;
  // Requests a pass when time alone may have changed the decisions.
  void Tick();

 private:
  struct Exclusion {
    int64_t until_us = 0;
    int times = 0;
    std::string detail;
  };
  using Placement = std::pair<std::string, std::string>;  // job_uid, worker_id

  int64_t NowUs() const;
  int64_t SteadyUs() const;  // for intervals
  void StartPass();
  ScheduleSnapshot Snapshot(const ReadView& view);
  void Carry(const ScheduleSnapshot& snapshot, const ScheduleDecisions& decisions);
  void FinishPass();

  // Applies one command of a pass; the pass ends after the last.
  template <typename C>
  void Apply(std::shared_ptr<void> pass, C command,
             std::function<void(const typename C::Result&)> then);
  void Explain(std::shared_ptr<void> pass, const ScheduleSnapshot& snapshot,
               const ScheduleDecisions& decisions);
  // Of a job that no worker can take: whether that has been so for long enough to fail it. Workers
  // may still be starting, or have not come back yet to a coordinator that started.
  bool GraceIsOver(const std::string& job_uid);

  Store& store_;
  const Catalog& catalog_;
  const std::shared_ptr<ServiceState> state_;

  // Resolved specs of jobs that wait, by uid: large, and never changed. Of the pass alone.
  std::map<std::string, liger::v1::JobSpec> specs_;

  mutable absl::Mutex mutex_;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool again_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t last_pass_us_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<TaskRow> running_checks_ ABSL_GUARDED_BY(mutex_);
  std::map<Placement, Exclusion> exclusions_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> ending_since_us_ ABSL_GUARDED_BY(mutex_);  // by job
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_SCHEDULE_LOOP_H_
