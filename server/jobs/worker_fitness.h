#ifndef LIGER_SERVER_JOBS_WORKER_FITNESS_H_
#define LIGER_SERVER_JOBS_WORKER_FITNESS_H_

#include <cstdint>
#include <vector>

#include "server/jobs/service_state.h"
#include "server/scheduler/scheduler.h"

namespace liger::server {

// Fills in which of the snapshot's workers get nothing now, or one task, though they have a
// session: those that are not well.
void FillFitness(ServiceState* state, ScheduleSnapshot* snapshot);

// Fills in where the job's CHECKs (`checks`) and attempts failed for want of infrastructure.
// `now_us` is the wall clock, as in the rows.
void FillFailures(const ReadView& view, const JobRow& job, const std::vector<TaskRow>& checks,
                  int64_t now_us, ScheduleSnapshot* snapshot);

// So long after it failed on a worker a job waits for another one that is in use; each further
// failure there doubles it. Of a CHECK, whose end is not stored, since it was sent.
inline constexpr int64_t kFailedLatelyUs = 30'000'000;
inline constexpr int64_t kLongestFailedLatelyUs = 600'000'000;

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_WORKER_FITNESS_H_
