// cancel and delete: the verbs that change a job.
#include <unistd.h>

#include <iostream>

#include "client/commands/commands.h"
#include "client/format.h"
#include "client/watch.h"

namespace liger::client {

Action DeclareCancel(CLI::App* app) {
  struct Options {
    std::string job;
    std::string reason;
    bool wait = false;
  };
  auto options = std::make_shared<Options>();
  app->add_option("job", options->job, "Name or uid")->required();
  app->add_option("--reason", options->reason, "Kept with the job");
  app->add_flag("--wait", options->wait, "Return when it has stopped");
  return [options](Session& session) {
    liger::v1::CancelJobRequest request;
    request.set_job(options->job);
    request.set_reason(options->reason);
    const auto job =
        session.connection().Call(&liger::v1::FineTuning::StubInterface::CancelJob, request);
    std::cout << job.name() << ": " << StateName(job.status().state()) << "\n";
    if (!options->wait || IsTerminal(job.status().state())) return kOk;
    const ExitCode end =
        FollowJob(session.connection(), job.uid(), 0, std::cout, isatty(STDOUT_FILENO));
    return end == kCancelled ? kOk : end;  // what was asked for
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
    std::cout << options->job << " deleted\n";
    return kOk;
  };
}

}  // namespace liger::client
