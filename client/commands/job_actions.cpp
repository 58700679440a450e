// cancel, pause, resume and delete: the verbs that change a job.
#include <iostream>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/format.h"
#include "client/watch.h"

namespace liger::client {

namespace {

// What came of it: a job that is over, or has its result, stays as it is.
std::string Cancelled(const liger::v1::Job& job) {
  const auto state = job.status().state();
  const bool cancelled =
      state == liger::v1::JobStatus::CANCELLING || state == liger::v1::JobStatus::CANCELLED;
  if (cancelled) return absl::StrCat(job.name(), ": ", StateName(state));
  if (!IsTerminal(state)) {
    return absl::StrCat(job.name(), " is not cancelled: its result exists already");
  }
  return absl::StrCat(job.name(), " is not cancelled: it had ", StateName(state), " before");
}

// Of the verbs that stop a job.
struct StopOptions {
  std::string job;
  std::string reason;
  bool wait = false;
};

std::shared_ptr<StopOptions> DeclareStopOptions(CLI::App* app, const char* wait_help) {
  auto options = std::make_shared<StopOptions>();
  app->add_option("job", options->job, "Name or uid")->required();
  app->add_option("--reason", options->reason, "Kept with the job");
  app->add_flag("--wait", options->wait, wait_help);
  return options;
}

template <typename Request>
Request StopRequest(const StopOptions& options) {
  Request request;
  request.set_job(options.job);
  request.set_reason(options.reason);
  return request;
}

bool IsPausing(const liger::v1::Job& job) {
  return job.status().state() == liger::v1::JobStatus::PAUSING;
}

void PrintState(const liger::v1::Job& job) {
  std::cout << job.name() << ": " << StateName(job.status().state()) << "\n" << std::flush;
}

}  // namespace

Action DeclareCancel(CLI::App* app) {
  const auto options = DeclareStopOptions(app, "Return when it has stopped");
  return [options](Session& session) {
    const auto request = StopRequest<liger::v1::CancelJobRequest>(*options);
    Followed end{
        kOk, session.connection().Call(&liger::v1::FineTuning::StubInterface::CancelJob, request)};
    if (session.output == Output::kTable) {
      std::cout << Cancelled(end.job) << "\n" << std::flush;
    }
    if (options->wait && !IsTerminal(end.job.status().state())) {
      end = FollowJob(session.connection(), end.job.uid(), 0, ScreenFor(session.output));
    }
    PrintForProgram(end.job, session.output);
    return end.code == kCancelled ? kOk : end.code;  // what was asked for
  };
}

Action DeclarePause(CLI::App* app) {
  const auto options = DeclareStopOptions(app, "Return when its devices are free");
  return [options](Session& session) {
    const auto request = StopRequest<liger::v1::PauseJobRequest>(*options);
    Followed end{
        kOk, session.connection().Call(&liger::v1::FineTuning::StubInterface::PauseJob, request)};
    if (session.output == Output::kTable) PrintState(end.job);
    if (options->wait && IsPausing(end.job)) {
      end = FollowJob(session.connection(), end.job.uid(), 0, ScreenFor(session.output),
                      [](const liger::v1::Job& job) { return !IsPausing(job); });
    }
    PrintForProgram(end.job, session.output);
    const auto state = end.job.status().state();
    const bool paused = state == liger::v1::JobStatus::PAUSED || IsPausing(end.job);
    if (end.code != kOk || paused) return end.code;
    std::cerr << end.job.name() << " is not paused: it is " << StateName(state) << "\n";
    return kError;
  };
}

Action DeclareResume(CLI::App* app) {
  struct Options {
    std::string job;
    bool wait = false;
  };
  auto options = std::make_shared<Options>();
  app->add_option("job", options->job, "Name or uid")->required();
  app->add_flag("--wait", options->wait, "Follow it until it ends");
  return [options](Session& session) {
    liger::v1::ResumeJobRequest request;
    request.set_job(options->job);
    Followed end{
        kOk, session.connection().Call(&liger::v1::FineTuning::StubInterface::ResumeJob, request)};
    if (session.output == Output::kTable) PrintState(end.job);
    if (options->wait) {
      end = FollowJob(session.connection(), end.job.uid(), 0, ScreenFor(session.output));
    }
    PrintForProgram(end.job, session.output);
    return end.code;
  };
}

Action DeclareDelete(CLI::App* app) {
  struct Options {
    std::string job;
    bool output = false;
  };
  auto options = std::make_shared<Options>();
  app->add_option("job", options->job, "Name or uid")->required();
  app->add_flag("--delete-output", options->output, "Remove the published folder too");
  return [options](Session& session) {
    liger::v1::DeleteJobRequest request;
    request.set_job(options->job);
    request.set_delete_output(options->output);
    session.connection().Call(&liger::v1::FineTuning::StubInterface::DeleteJob, request);
    std::cout << options->job << (session.output == Output::kName ? "\n" : " deleted\n");
    return kOk;
  };
}

}  // namespace liger::client
