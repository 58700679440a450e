#ifndef LIGER_CLIENT_WATCH_H_
#define LIGER_CLIENT_WATCH_H_

#include <ostream>
#include <string>
#include <vector>

#include "client/connection.h"
#include "client/exit_code.h"
#include "liger/v1/fine_tuning.pb.h"

namespace liger::client {

// Draws one job as it changes: on a terminal a line that is redrawn (bar, step,
// loss sparkline, tokens/s, peak memory, ETA), in a pipe a plain line a change.
class JobDisplay {
 public:
  JobDisplay(std::ostream& out, bool terminal) : out_(out), terminal_(terminal) {}

  void Update(const liger::v1::WatchJobsResponse& update);

  // Ends the line that is being redrawn.
  void Finish();

 private:
  void PrintLine(const std::string& line);
  void DrawProgress(const liger::v1::Job& job);

  std::ostream& out_;
  const bool terminal_;
  bool line_open_ = false;
  int64_t last_step_ = -1;
  size_t evaluations_ = 0;
  liger::v1::JobStatus::State last_state_ = liger::v1::JobStatus::STATE_UNSPECIFIED;
  std::string last_reason_;
  std::vector<double> losses_;
};

// The line of a running job.
std::string ProgressLine(const liger::v1::Job& job, const std::vector<double>& losses);

// How a job ended and where its result is, or why it failed and what to do.
std::string Outcome(const liger::v1::Job& job);

bool IsTerminal(liger::v1::JobStatus::State state);

// Follows a job to its end, over coordinator restarts (for at most
// `unreachable_seconds`). timeout_seconds 0: for ever. Ctrl-C detaches: the job
// goes on, and this says so. Returns the exit code that tells how it ended.
ExitCode FollowJob(Connection& connection, const std::string& job, double timeout_seconds,
                   std::ostream& out, bool terminal);

}  // namespace liger::client

#endif  // LIGER_CLIENT_WATCH_H_
