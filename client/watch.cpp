#include "client/watch.h"

#include <unistd.h>

#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/errors.h"
#include "client/format.h"
#include "client/interrupt.h"

namespace liger::client {
namespace {

using liger::v1::Job;
using liger::v1::JobStatus;

// How long a coordinator may be away before a follower gives up.
constexpr absl::Duration kUnreachable = absl::Minutes(2);

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

}  // namespace

bool IsTerminal(JobStatus::State state) {
  return state == JobStatus::SUCCEEDED || state == JobStatus::FAILED ||
         state == JobStatus::CANCELLED;
}

std::string ProgressLine(const Job& job, const std::vector<double>& losses) {
  const auto& progress = job.status().progress();
  if (progress.max_steps() == 0) return progress.phase();  // before the first step
  const double fraction = progress.max_steps() > 0 ? static_cast<double>(progress.step()) /
                                                         static_cast<double>(progress.max_steps())
                                                   : 0;
  std::string line =
      absl::StrFormat("%s %d/%d", ProgressBar(fraction, 20), progress.step(), progress.max_steps());
  const double loss = Value(progress, "loss");
  if (std::isfinite(loss)) {
    absl::StrAppend(&line, "  loss ", Number(loss), " ", Sparkline(losses, 20));
  }
  if (progress.tokens_per_second() > 0) {
    absl::StrAppendFormat(&line, "  %.0f tok/s", progress.tokens_per_second());
  }
  if (const std::string peak = PeakMemory(progress); !peak.empty()) {
    absl::StrAppend(&line, "  peak ", peak);
  }
  if (progress.eta_seconds() > 0) {
    absl::StrAppend(&line, "  ETA ", Duration(progress.eta_seconds()));
  }
  if (!progress.phase().empty() && progress.phase() != "TRAINING") {
    absl::StrAppend(&line, "  ", progress.phase());
  }
  return line;
}

std::string Outcome(const Job& job) {
  const JobStatus& status = job.status();
  std::string text = absl::StrCat(job.name(), ": ", StateName(status.state()));
  if (!status.message().empty())
    absl::StrAppend(&text, "\n  cause:  ", Printable(status.message()));
  if (!status.action().empty()) absl::StrAppend(&text, "\n  action: ", Printable(status.action()));
  if (!status.output_uri().empty()) absl::StrAppend(&text, "\n  output: ", status.output_uri());
  return text + "\n";
}

void JobDisplay::PrintLine(const std::string& line) {
  if (line_open_) out_ << "\r\033[K";
  line_open_ = false;
  out_ << line << "\n" << std::flush;
}

void JobDisplay::Finish() {
  if (line_open_) out_ << "\n" << std::flush;
  line_open_ = false;
}

void JobDisplay::DrawProgress(const Job& job) {
  const auto& progress = job.status().progress();
  if (progress.step() > last_step_) {
    last_step_ = progress.step();
    if (const double loss = Value(progress, "loss"); std::isfinite(loss)) losses_.push_back(loss);
  } else if (!terminal_) {
    return;
  } else if (progress.step() < last_step_) {  // a new attempt
    last_step_ = progress.step();
  }
  if (progress.max_steps() == 0 && progress.phase().empty()) return;
  const std::string line = ProgressLine(job, losses_);
  if (!terminal_) return PrintLine(line);
  out_ << "\r\033[K" << line << std::flush;
  line_open_ = true;
}

void JobDisplay::Update(const liger::v1::WatchJobsResponse& update) {
  const Job& job = update.job();
  const JobStatus& status = job.status();
  const bool waits = status.state() == JobStatus::QUEUED && status.reason() != last_reason_;
  if (status.state() != last_state_ || waits) {
    last_state_ = status.state();
    last_reason_ = status.reason();
    std::string line = StateName(status.state());
    if (!IsTerminal(status.state()) && !status.message().empty()) {
      absl::StrAppend(&line, ": ", Printable(status.message()));
    }
    PrintLine(line);
  }
  for (; evaluations_ < static_cast<size_t>(status.evaluations_size()); ++evaluations_) {
    PrintLine(Evaluated(status.evaluations(static_cast<int>(evaluations_))));
  }
  if (status.state() == JobStatus::RUNNING) DrawProgress(job);
}

ExitCode FollowJob(Connection& connection, const std::string& job, double timeout_seconds,
                   std::ostream& out, bool terminal) {
  JobDisplay display(out, terminal);
  const absl::Time deadline =
      timeout_seconds > 0 ? absl::Now() + absl::Seconds(timeout_seconds) : absl::InfiniteFuture();
  absl::Time last_heard = absl::Now();
  Job last;
  liger::v1::WatchJobsRequest request;
  request.set_job(job);
  while (true) {
    grpc::ClientContext context;
    if (deadline != absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline));
    grpc::Status status;
    {
      InterruptGuard guard(&context);
      auto reader = connection.stub().WatchJobs(&context, request);
      liger::v1::WatchJobsResponse update;
      while (reader->Read(&update)) {
        last_heard = absl::Now();
        last = update.job();
        request.set_from_revision(update.revision());
        display.Update(update);
        if (IsTerminal(last.status().state())) {
          context.TryCancel();
          break;
        }
      }
      status = reader->Finish();
    }
    display.Finish();
    if (IsTerminal(last.status().state())) {
      out << Outcome(last);
      return ExitCodeFor(last.status().state());
    }
    if (InterruptGuard::interrupted()) {
      out << "detached; the job goes on. See it again: liger-cli watch " << job << "\n";
      return kInterrupted;
    }
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      throw CliError(kTimedOut, absl::StrCat("the job did not end within ",
                                             Duration(timeout_seconds), "; it goes on"));
    }
    const bool resumable = status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                           status.error_code() == grpc::StatusCode::OUT_OF_RANGE;
    if (!resumable || absl::Now() - last_heard > kUnreachable ||
        (status.error_code() == grpc::StatusCode::UNAVAILABLE && last.uid().empty())) {
      connection.Check(status);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
}

}  // namespace liger::client
