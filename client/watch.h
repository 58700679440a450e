#ifndef LIGER_CLIENT_WATCH_H_
#define LIGER_CLIENT_WATCH_H_

#include <functional>
#include <string>

#include "client/connection.h"
#include "client/exit_code.h"
#include "client/job_display.h"
#include "liger/v1/job.pb.h"

namespace liger::client {

struct Followed {
  // Tells how the job ended, or that following it did.
  ExitCode code = kOk;
  liger::v1::Job job;
};

// Follows a job to its end, over coordinator restarts (kUnreachable long at
// most). timeout_seconds 0: for ever. Ctrl-C detaches: the job goes on, and
// this says so. Where there is `until`, no further than to when it holds.
Followed FollowJob(Connection& connection, const std::string& job, double timeout_seconds,
                   const Screen& screen,
                   const std::function<bool(const liger::v1::Job&)>& until = nullptr);

}  // namespace liger::client

#endif  // LIGER_CLIENT_WATCH_H_
