#ifndef LIGER_CLIENT_JOB_DISPLAY_H_
#define LIGER_CLIENT_JOB_DISPLAY_H_

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "client/print.h"
#include "liger/v1/fine_tuning.pb.h"

namespace liger::client {

// Where progress is drawn: on standard output, or on standard error when that
// belongs to what a program reads.
struct Screen {
  std::ostream& out;
  // Of the terminal as it is now; 0: a pipe or a file.
  std::function<int()> columns;
};
Screen ScreenFor(Output output);

// Draws one job as it changes: on a terminal a line that is redrawn (bar, step,
// loss sparkline, tokens/s, peak memory, ETA), in a pipe a plain line a change.
class JobDisplay {
 public:
  explicit JobDisplay(Screen screen) : screen_(std::move(screen)) {}

  void Update(const liger::v1::WatchJobsResponse& update);

  // Ends the line that is being redrawn.
  void Finish();

 private:
  void PrintLine(const std::string& line);
  void PrintState(const liger::v1::JobStatus& status);
  void PrintResumed(const liger::v1::JobStatus& status);
  void PrintWarnings(const liger::v1::JobStatus& status);
  void PrintEvaluations(const liger::v1::JobStatus& status);
  void DrawProgress(const liger::v1::Job& job);

  Screen screen_;
  bool line_open_ = false;
  std::string state_lines_, resumed_line_;
  int64_t epoch_ = 0;
  int64_t last_step_ = -1;
  int warnings_ = 0;
  int evaluations_ = 0;
  std::vector<double> losses_;
};

// The line of a running job in at most `columns` columns (0: as long as it
// gets): without the sparkline, then with half the bar, then without the peak,
// then cut.
std::string ProgressLine(const liger::v1::Job& job, const std::vector<double>& losses, int columns);

// How a job ended, what it brought and where its result is, or why it failed
// and what to do; in lines of `columns` (0: as long as they get).
std::string Outcome(const liger::v1::Job& job, int columns);

bool IsTerminal(liger::v1::JobStatus::State state);

}  // namespace liger::client

#endif  // LIGER_CLIENT_JOB_DISPLAY_H_
