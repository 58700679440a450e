#ifndef LIGER_SERVER_STORE_JOB_HISTORY_H_
#define LIGER_SERVER_STORE_JOB_HISTORY_H_

#include "server/store/records.h"

namespace liger::server {

// Whether an attempt of it has run, or was lost: one that its worker refused has not.
inline bool HasRun(const JobRow& job) { return job.started_us > 0 || job.restarts > 0; }

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_JOB_HISTORY_H_
