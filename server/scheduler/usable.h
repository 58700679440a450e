#ifndef LIGER_SERVER_SCHEDULER_USABLE_H_
#define LIGER_SERVER_SCHEDULER_USABLE_H_

#include <set>
#include <string>
#include <vector>

#include "server/scheduler/scheduler.h"

// Which workers something may be sent to now, and what a job is told of the others.
// Pure functions.
namespace liger::server {

// Those that are there, fit, and did not refuse this job just now. `offered`: workers that this
// pass has given something; one that is to show that it is well gets no more.
std::vector<const WorkerRow*> Usable(const ScheduleSnapshot& snapshot, const std::string& job_uid,
                                     const std::vector<const WorkerRow*>& workers,
                                     const std::set<std::string>& offered);

// It says that it is unfit, or gets nothing for a while.
bool TakesNothing(const ScheduleSnapshot& snapshot, const std::string& worker_id);

// Those that do not say that they are unfit.
std::vector<const WorkerRow*> Fit(const ScheduleSnapshot& snapshot,
                                  const std::vector<const WorkerRow*>& workers);

// Those on which the job did not fail before.
std::vector<const WorkerRow*> Trusted(const ScheduleSnapshot& snapshot, const std::string& job_uid,
                                      const std::vector<const WorkerRow*>& workers);

// Whether the job comes behind those that have failed nowhere: it has failed, and a worker is to be
// tried by one task now, which would say nothing if the job is what fails.
bool Yields(const ScheduleSnapshot& snapshot, const JobRow& job);

// What keeps these workers from the job, one sentence each: what those said that did not start it,
// and why the others are unfit.
std::vector<std::string> Obstacles(const ScheduleSnapshot& snapshot, const std::string& job_uid,
                                   const std::vector<const WorkerRow*>& workers,
                                   const std::set<std::string>& offered);

// REQUIRES: those of `able` that are usable are too few.
WaitDecision WaitForWorkers(const ScheduleSnapshot& snapshot, const std::string& job_uid,
                            const std::vector<const WorkerRow*>& able,
                            const std::set<std::string>& offered);

}  // namespace liger::server

#endif  // LIGER_SERVER_SCHEDULER_USABLE_H_
