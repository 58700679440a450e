#include "client/job_display.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/format.h"
#include "client/terminal.h"
#include "common/spec/saved_model.h"

namespace liger::client {
namespace {

using liger::v1::Job;
using liger::v1::JobStatus;

double Value(const liger::v1::Progress& progress, const char* name) {
  const auto it = progress.values().find(name);
  return it == progress.values().end() ? NAN : it->second;
}

std::string Evaluated(const liger::v1::Evaluation& evaluation) {
  std::string line = absl::StrCat("evaluated at step ", evaluation.step(), ":");
  for (const char* name : {"eval_loss", "eval_rewards/accuracies", "eval_rewards/margins"}) {
    const auto it = evaluation.values().find(name);
    if (it != evaluation.values().end()) absl::StrAppend(&line, " ", name, " ", Number(it->second));
  }
  return line;
}

// "2.31 before, 1.9 after" of the held-out rows; without them nothing.
std::string EvalLoss(const JobStatus& status) {
  std::vector<std::string> losses;
  for (const auto& evaluation : status.evaluations()) {
    const auto it = evaluation.values().find("eval_loss");
    if (it == evaluation.values().end()) continue;
    losses.push_back(Number(it->second));
    // Later ones are not of what was saved.
    if (status.saved_step() > 0 && evaluation.step() >= status.saved_step()) break;
  }
  if (losses.empty()) return "";
  if (losses.size() == 1) return losses[0];
  return absl::StrCat(losses.front(), " before, ", losses.back(), " after");
}

std::string ProgressLine(const liger::v1::Progress& progress, int bar_width,
                         const std::string& sparkline, const std::string& peak) {
  const double fraction =
      static_cast<double>(progress.step()) / static_cast<double>(progress.max_steps());
  std::string line =
      absl::StrFormat("%s %d/%d", ProgressBar(fraction, bar_width), progress.step(),
                      progress.max_steps());
  if (const double loss = Value(progress, "loss"); std::isfinite(loss)) {
    absl::StrAppend(&line, "  loss ", Number(loss), sparkline.empty() ? "" : " ", sparkline);
  }
  if (progress.tokens_per_second() > 0) {
    absl::StrAppendFormat(&line, "  %.0f tok/s", progress.tokens_per_second());
  }
  if (!peak.empty()) absl::StrAppend(&line, "  peak ", peak);
  if (progress.eta_seconds() > 0) {
    absl::StrAppend(&line, "  ETA ", Duration(progress.eta_seconds()));
  }
  if (!progress.phase().empty() && progress.phase() != "TRAINING") {
    absl::StrAppend(&line, "  ", progress.phase());
  }
  return line;
}

}  // namespace

Screen ScreenFor(Output output) {
  const bool table = output == Output::kTable;
  const int fd = table ? STDOUT_FILENO : STDERR_FILENO;
  return {table ? std::cout : std::cerr, [fd] { return TerminalColumns(fd); }};
}

bool IsTerminal(JobStatus::State state) {
  return state == JobStatus::SUCCEEDED || state == JobStatus::FAILED ||
         state == JobStatus::CANCELLED;
}

std::string ProgressLine(const Job& job, const std::vector<double>& losses, int columns) {
  const auto& progress = job.status().progress();
  if (progress.max_steps() == 0) return progress.phase();  // before the first step
  const bool any_width = columns <= 0;
  const auto fits = [&](const std::string& line) {
    return any_width || Width(line) <= static_cast<size_t>(columns);
  };
  const std::string peak = PeakMemory(progress);
  std::string line = ProgressLine(progress, 20, Sparkline(losses, 20), peak);
  if (!fits(line)) line = ProgressLine(progress, 20, "", peak);
  if (!fits(line)) line = ProgressLine(progress, 10, "", peak);
  if (!fits(line)) line = ProgressLine(progress, 20, "", "");
  return fits(line) ? line : Cut(line, static_cast<size_t>(columns));
}

std::string Outcome(const Job& job, int columns) {
  const JobStatus& status = job.status();
  std::string text = absl::StrCat(job.name(), ": ", StateName(status.state()), "\n");
  const auto line = [&](const char* what, const std::string& value) {
    if (value.empty()) return;
    const std::string whole =
        absl::StrFormat("  %-10s %s", absl::StrCat(what, ":"), Printable(value));
    absl::StrAppend(&text, Wrap(whole, columns, /*indent=*/13), "\n");
  };
  line("cause", Cause(status));
  line("action", status.action());
  line("eval loss", EvalLoss(status));
  if (status.has_best()) line("saved", SavedModelText(status.saved_step(), status.best()));
  line("output", status.output_uri());
  return text;
}

void JobDisplay::PrintLine(const std::string& line) {
  if (line_open_) screen_.out << "\r\033[K";
  line_open_ = false;
  screen_.out << Wrap(line, screen_.columns(), /*indent=*/2) << "\n" << std::flush;
}

void JobDisplay::Finish() {
  if (line_open_) screen_.out << "\n" << std::flush;
  line_open_ = false;
}

// The state, and what it waits for with what to do about that, when any of it
// has changed. The end's cause and action are Outcome's.
void JobDisplay::PrintState(const JobStatus& status) {
  std::string lines = StateName(status.state());
  if (!IsTerminal(status.state())) {
    if (!status.message().empty()) absl::StrAppend(&lines, ": ", Printable(status.message()));
    if (!status.action().empty()) absl::StrAppend(&lines, "\n  ", Printable(status.action()));
  }
  if (lines == state_lines_) return;
  state_lines_ = lines;
  PrintLine(lines);
}

void JobDisplay::PrintResumed(const JobStatus& status) {
  const std::string line = status.has_resumed() ? Printable(ResumedText(status.resumed())) : "";
  if (line == resumed_line_) return;
  resumed_line_ = line;
  if (!line.empty()) PrintLine(line);
}

void JobDisplay::PrintEvaluations(const JobStatus& status) {
  if (status.evaluations_size() < evaluations_) evaluations_ = 0;  // a new attempt's
  while (evaluations_ < status.evaluations_size()) {
    PrintLine(Evaluated(status.evaluations(evaluations_++)));
  }
}

void JobDisplay::PrintWarnings(const JobStatus& status) {
  if (status.warnings_size() < warnings_) warnings_ = 0;  // a new attempt's
  while (warnings_ < status.warnings_size()) {
    PrintLine("warning: " + Printable(status.warnings(warnings_++).message()));
  }
}

void JobDisplay::DrawProgress(const Job& job) {
  const auto& progress = job.status().progress();
  if (job.status().epoch() != epoch_ || progress.step() < last_step_) {  // a new attempt
    epoch_ = job.status().epoch();
    last_step_ = -1;
    losses_.clear();
  }
  const bool new_step = progress.step() > last_step_;
  last_step_ = progress.step();
  const double loss = Value(progress, "loss");
  if (new_step && std::isfinite(loss)) losses_.push_back(loss);
  if (progress.max_steps() == 0 && progress.phase().empty()) return;
  const int columns = screen_.columns();
  if (columns == 0) {
    if (new_step) PrintLine(ProgressLine(job, losses_, 0));
    return;
  }
  // One column less: the cursor stands behind the text. Clearing only what is
  // left of a longer line keeps it from flickering.
  screen_.out << "\r" << ProgressLine(job, losses_, std::max(1, columns - 1)) << "\033[K"
              << std::flush;
  line_open_ = true;
}

void JobDisplay::Update(const liger::v1::WatchJobsResponse& update) {
  const JobStatus& status = update.job().status();
  PrintState(status);
  PrintResumed(status);
  PrintWarnings(status);
  PrintEvaluations(status);
  if (status.state() == JobStatus::RUNNING) DrawProgress(update.job());
}

}  // namespace liger::client
