#include "client/experiment_display.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/errors.h"
#include "client/format.h"
#include "client/interrupt.h"
#include "client/outage.h"
#include "common/spec/enum_names.h"
#include "liger/v1/experiments.grpc.pb.h"

namespace liger::client {
namespace {

using liger::v1::Experiment;
using liger::v1::ExperimentJob;

constexpr size_t kValueColumn = 13;

std::string KernelsName(liger::v1::KernelMode mode) {
  return ShortEnumName(*liger::v1::KernelMode_descriptor()->FindValueByNumber(mode));
}

std::string OutcomeName(const ExperimentJob& job) {
  if (job.outcome() == ExperimentJob::ACTIVE) return StateName(job.job_state());
  std::string name = ExperimentJob::Outcome_Name(job.outcome());
  return job.cached() ? absl::StrCat(name, " (earlier result)") : name;
}

std::string Line(const std::string& key, const std::string& value, int columns) {
  if (value.empty()) return "";
  return Wrap(absl::StrFormat("%-12s %s", key, value), columns, kValueColumn) + "\n";
}

// Asks once a second.
class Follower {
 public:
  Follower(Connection& connection, const std::string& name, double timeout_seconds,
           const Screen& screen)
      : connection_(connection),
        stub_(liger::v1::Experiments::NewStub(connection.channel())),
        timeout_seconds_(timeout_seconds),
        deadline_(timeout_seconds > 0 ? absl::Now() + absl::Seconds(timeout_seconds)
                                      : absl::InfiniteFuture()),
        screen_(screen) {
    request_.set_experiment(name);
  }

  FollowedExperiment Run() {
    while (true) {
      Ask();
      if (IsTerminal(last_.state())) {
        screen_.out << ExperimentText(last_, screen_.columns()) << std::flush;
        return {ExitCodeFor(last_.state()), last_};
      }
      if (guard_.interrupted()) return Leave(kInterrupted, "detached; the experiment goes on");
      if (absl::Now() >= deadline_) {
        return Leave(kTimedOut, absl::StrCat("the experiment did not end within ",
                                             Duration(timeout_seconds_), "; it goes on"));
      }
      guard_.Sleep(std::min(absl::Seconds(1), deadline_ - absl::Now()));
    }
  }

 private:
  void Ask() {
    const absl::Time began = absl::Now();
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(began + absl::Seconds(30)));
    Experiment answer;
    const grpc::Status status = stub_->GetExperiment(&context, request_, &answer);
    if (status.ok()) {
      last_ = std::move(answer);
      request_.set_experiment(last_.uid());
      outage_ = Outage();
      return Show();
    }
    const bool known = !last_.uid().empty();
    const bool away = CoordinatorAway(status) && (known || MayAnswerLater(status));
    if (!away || outage_.StreamFailed(began, false, absl::Now())) connection_.Check(status);
    if (!known) connection_.SayAwaited();
    AwaitConnection(*connection_.channel(), absl::Milliseconds(300));
  }

  // A line when a job begins or ends.
  void Show() {
    std::string line = CountsLine(last_.counts());
    for (const ExperimentJob& job : last_.jobs()) {
      if (job.outcome() == ExperimentJob::ACTIVE) absl::StrAppend(&line, "; ", job.job_name());
    }
    if (line == shown_) return;
    shown_ = line;
    screen_.out << line << "\n" << std::flush;
  }

  FollowedExperiment Leave(ExitCode code, const std::string& why) {
    const std::string& name = last_.name().empty() ? request_.experiment() : last_.name();
    screen_.out << why << ". See it again: liger-cli experiment watch " << name << "\n"
                << std::flush;
    return {code, last_};
  }

  Connection& connection_;
  const std::unique_ptr<liger::v1::Experiments::Stub> stub_;
  const double timeout_seconds_;
  const absl::Time deadline_;
  const Screen& screen_;
  InterruptGuard guard_;
  Outage outage_;
  liger::v1::GetExperimentRequest request_;
  Experiment last_;
  std::string shown_;
};

}  // namespace

bool IsTerminal(Experiment::State state) {
  return state == Experiment::SUCCEEDED || state == Experiment::FAILED ||
         state == Experiment::CANCELLED;
}

ExitCode ExitCodeFor(Experiment::State state) {
  if (state == Experiment::FAILED) return kJobFailed;
  return state == Experiment::CANCELLED ? kCancelled : kOk;
}

std::string PointLabel(const liger::v1::ExperimentPoint& point) {
  std::string label;
  for (const auto& value : point.values()) {
    const std::string field = value.field().substr(value.field().rfind('.') + 1);
    absl::StrAppend(&label, label.empty() ? "" : ", ", field, " ", value.value());
  }
  return label;
}

std::string CountsLine(const liger::v1::ExperimentCounts& counts) {
  const int done = counts.jobs() - counts.pending() - counts.active();
  std::string line = absl::StrCat(done, " of ", counts.jobs(), " jobs done");
  const auto add = [&line](int count, const char* what) {
    if (count > 0) absl::StrAppend(&line, ", ", count, " ", what);
  };
  add(counts.active(), "active");
  add(counts.cached(), "from earlier results");
  add(counts.out_of_memory(), "out of memory");
  add(counts.failed(), "failed");
  add(counts.cancelled(), "cancelled");
  return line;
}

std::string ExperimentText(const Experiment& experiment, int columns) {
  std::string text =
      absl::StrCat(experiment.name(), "  ", Experiment::State_Name(experiment.state()), "\n");
  absl::StrAppend(&text, Line("cause", Printable(experiment.message()), columns),
                  Line("action", Printable(experiment.action()), columns),
                  Line("jobs", CountsLine(experiment.counts()), columns),
                  Line("uid", experiment.uid(), columns));
  if (IsTerminal(experiment.state())) {
    absl::StrAppend(&text, Line("report", "liger-cli experiment report " + experiment.name(), 0));
  }
  if (experiment.jobs().empty()) return text;
  Table table({"JOB", "POINT", "KERNELS", "RUN", "STATE", "STEP", "CAUSE"});
  for (const ExperimentJob& job : experiment.jobs()) {
    const std::string step =
        job.max_steps() > 0 ? absl::StrCat(job.step(), "/", job.max_steps()) : "";
    table.Add({job.job_name(), PointLabel(experiment.points(job.point())),
               KernelsName(job.kernels()), absl::StrCat(job.run() + 1), OutcomeName(job), step,
               job.message()});
  }
  absl::StrAppend(&text, "\n", table.ToString(columns, Table::Overflow::kCut));
  return text;
}

FollowedExperiment FollowExperiment(Connection& connection, const std::string& experiment,
                                    double timeout_seconds, const Screen& screen) {
  return Follower(connection, experiment, timeout_seconds, screen).Run();
}

}  // namespace liger::client
