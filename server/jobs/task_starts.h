#ifndef LIGER_SERVER_JOBS_TASK_STARTS_H_
#define LIGER_SERVER_JOBS_TASK_STARTS_H_

#include <vector>

#include "server/jobs/fleet_port.h"
#include "server/store/records.h"

namespace liger::server {

// One for each member of an attempt.
std::vector<TaskStart> TrainStarts(const JobRow& job, const AttemptRow& attempt,
                                   const std::vector<MemberRow>& members);

// A job's CHECK reads all of its data.
TaskStart CheckStart(const JobRow& job, const TaskRow& task);

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_TASK_STARTS_H_
