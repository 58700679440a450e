// experiment: groups of jobs over a grid. Its verbs are below it.
#include <algorithm>
#include <iostream>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/commands/report_output.h"
#include "client/errors.h"
#include "client/experiment_builder.h"
#include "client/experiment_display.h"
#include "client/format.h"
#include "client/watch.h"
#include "common/ids.h"
#include "liger/v1/experiments.grpc.pb.h"

namespace liger::client {
namespace {

using liger::v1::Experiment;
using Stub = liger::v1::Experiments::StubInterface;

struct ExperimentOptions {
  ExperimentFlags spec;
  std::string name;
  bool dry_run = false;
  bool wait = false;
  double timeout_seconds = 0;
  std::string request_id;
  std::string reason;
  std::string out;
  int limit = 50;
};

template <typename Request, typename Response>
Response Call(Session& session,
              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
              const Request& request, double deadline_seconds = 30) {
  const std::unique_ptr<Stub> stub =
      liger::v1::Experiments::NewStub(session.connection().channel());
  return session.connection().CallOn(*stub, method, request, deadline_seconds);
}

Experiment Get(Session& session, const std::string& name) {
  liger::v1::GetExperimentRequest request;
  request.set_experiment(name);
  return Call(session, &Stub::GetExperiment, request);
}

// Nothing for a table, whose text is the verb's own.
void PrintForProgram(const Experiment& experiment, Output output) {
  if (output == Output::kName) {
    std::cout << experiment.name() << "\n";
  } else if (output != Output::kTable) {
    PrintMessage(experiment, output);
  }
}

void PrintDryRun(const liger::v1::CreateExperimentResponse& response) {
  const Experiment& experiment = response.experiment();
  std::cout << "valid; nothing was created\n";
  for (const auto& check : response.checks_run()) std::cout << "  checked: " << check << "\n";
  for (const auto& check : response.checks_skipped()) {
    std::cout << "  not checked: " << check << "\n";
  }
  std::cout << experiment.points_size() << " points, " << experiment.jobs_size()
            << " jobs, in this order:\n";
  for (const auto& job : experiment.jobs()) {
    std::cout << "  " << PointLabel(experiment.points(job.point())) << ", "
              << (job.kernels() == liger::v1::KERNEL_MODE_LIGER ? "LIGER" : "BASELINE") << ", run "
              << job.run() + 1 << "\n";
  }
}

ExitCode Submit(const ExperimentOptions& options, Session& session) {
  liger::v1::CreateExperimentRequest request;
  std::vector<std::string> notes;
  *request.mutable_spec() = BuildExperiment(options.spec, &notes);
  for (const std::string& note : notes) std::cerr << "note: " << note << "\n";
  request.set_validate_only(options.dry_run);
  // A retry inside gRPC must not make a second experiment.
  request.set_request_id(options.request_id.empty() ? NewUuid() : options.request_id);
  auto response = Call(session, &Stub::CreateExperiment, request, options.dry_run ? 150 : 30);
  for (const std::string& notice : response.notices()) std::cerr << "note: " << notice << "\n";
  const std::string name = response.experiment().name();
  const bool wait = options.wait && !options.dry_run;
  if (session.output == Output::kName) {
    std::cout << name << "\n" << std::flush;
  } else if (session.output == Output::kTable && options.dry_run) {
    PrintDryRun(response);
  } else if (session.output == Output::kTable) {
    std::cout << "experiment " << name << " submitted: " << response.experiment().jobs_size()
              << " jobs\n"
              << std::flush;
    if (!wait) std::cout << "follow it: liger-cli experiment watch " << name << "\n";
  }
  ExitCode code = kOk;
  if (wait) {
    const FollowedExperiment end =
        FollowExperiment(session.connection(), response.experiment().uid(), options.timeout_seconds,
                         ScreenFor(session.output));
    code = end.code;
    if (!end.experiment.uid().empty()) *response.mutable_experiment() = end.experiment;
  }
  if (session.output == Output::kJson || session.output == Output::kYaml) {
    PrintMessage(response, session.output);
  }
  return code;
}

ExitCode Show(const ExperimentOptions& options, Session& session) {
  const Experiment experiment = Get(session, options.name);
  if (session.output == Output::kTable) {
    std::cout << ExperimentText(experiment, session.columns());
  }
  PrintForProgram(experiment, session.output);
  return kOk;
}

ExitCode List(const ExperimentOptions& options, Session& session) {
  liger::v1::ListExperimentsResponse all;
  liger::v1::ListExperimentsRequest request;
  while (all.experiments_size() < options.limit) {
    request.set_page_size(std::min(500, options.limit - all.experiments_size()));
    const auto page = Call(session, &Stub::ListExperiments, request);
    all.mutable_experiments()->MergeFrom(page.experiments());
    all.set_next_page_token(page.next_page_token());
    if (page.next_page_token().empty()) break;
    request.set_page_token(page.next_page_token());
  }
  if (session.output == Output::kName) {
    for (const Experiment& experiment : all.experiments()) std::cout << experiment.name() << "\n";
  } else if (session.output != Output::kTable) {
    PrintMessage(all, session.output);
  } else {
    Table table({"NAME", "STATE", "AGE", "JOBS"});
    for (const Experiment& experiment : all.experiments()) {
      table.Add({experiment.name(), Experiment::State_Name(experiment.state()),
                 Age(experiment.create_time(), absl::Now()), CountsLine(experiment.counts())});
    }
    std::cout << table.ToString(session.columns());
  }
  return kOk;
}

ExitCode Watch(const ExperimentOptions& options, Session& session) {
  const FollowedExperiment end = FollowExperiment(
      session.connection(), options.name, options.timeout_seconds, ScreenFor(session.output));
  PrintForProgram(end.experiment, session.output);
  return end.code;
}

ExitCode Cancel(const ExperimentOptions& options, Session& session) {
  liger::v1::CancelExperimentRequest request;
  request.set_experiment(options.name);
  request.set_reason(options.reason);
  Experiment experiment = Call(session, &Stub::CancelExperiment, request);
  if (session.output == Output::kTable) {
    const bool cancelled =
        experiment.state() == Experiment::CANCELLING || experiment.state() == Experiment::CANCELLED;
    std::cout << experiment.name()
              << (cancelled ? ": " : " is not cancelled: it had ended before, ")
              << Experiment::State_Name(experiment.state()) << "\n"
              << std::flush;
  }
  if (options.wait && !IsTerminal(experiment.state())) {
    experiment =
        FollowExperiment(session.connection(), experiment.uid(), 0, ScreenFor(session.output))
            .experiment;
  }
  PrintForProgram(experiment, session.output);
  return kOk;
}

ExitCode Delete(const ExperimentOptions& options, Session& session) {
  const Experiment experiment = Get(session, options.name);
  liger::v1::DeleteExperimentRequest request;
  request.set_experiment(experiment.uid());
  Call(session, &Stub::DeleteExperiment, request);
  if (session.output == Output::kName) {
    std::cout << options.name << "\n";
    return kOk;
  }
  std::cout << options.name << " deleted"
            << (IsTerminal(experiment.state()) ? "" : "; its jobs that ran are being cancelled")
            << ". Its jobs stay: liger-cli list --filter label.experiment=" << experiment.name()
            << "\n";
  return kOk;
}

ExitCode Report(const ExperimentOptions& options, Session& session) {
  const Experiment experiment = Get(session, options.name);
  std::map<std::string, liger::v1::Run> runs;
  for (const auto& job : experiment.jobs()) {
    if (job.job_uid().empty()) continue;
    liger::v1::GetRunRequest request;
    request.set_job(job.job_uid());
    runs[job.job_uid()] = Call(session, &Stub::GetRun, request);
  }
  const ReportData data = FromExperiment(experiment, runs);
  if (!IsTerminal(experiment.state())) {
    std::cerr << "note: the experiment is not over; the report has what there is\n";
  }
  const std::string folder = options.out.empty() ? experiment.name() + "-report" : options.out;
  PrintReport(data, folder, session);
  return kOk;
}

// A verb below `experiment`, and what it does.
struct SubVerb {
  CLI::App* app;
  ExitCode (*run)(const ExperimentOptions&, Session&);
};

}  // namespace

Action DeclareExperiment(CLI::App* app) {
  auto options = std::make_shared<ExperimentOptions>();
  app->require_subcommand(1);
  auto verbs = std::make_shared<std::vector<SubVerb>>();
  const auto add = [&](const char* name, const char* help,
                       ExitCode (*run)(const ExperimentOptions&, Session&)) {
    CLI::App* verb = app->add_subcommand(name, help);
    verb->fallthrough();
    verbs->push_back({verb, run});
    return verb;
  };
  const auto takes_name = [&](CLI::App* verb) {
    verb->add_option("experiment", options->name, "Name or uid")->required();
  };
  const auto takes_timeout = [&](CLI::App* verb) {
    verb->add_option("--timeout", options->timeout_seconds,
                     "Give up after this long (default: never)")
        ->type_name("SECONDS")
        ->check(Positive());
  };
  CLI::App* submit = add("submit", "Submit an experiment", Submit);
  submit
      ->add_option("-f,--file", options->spec.file,
                   "Experiment file (YAML or JSON; - for standard input)")
      ->required();
  submit->add_option("--name", options->spec.name, "Name of the experiment")->check(NotEmpty());
  submit->add_option("--runs", options->spec.runs, "Jobs for each point and kernel setting")
      ->check(Positive());
  submit
      ->add_option("--grid", options->spec.grids,
                   "Values of an axis: training.per_device_train_batch_size=8,16")
      ->type_name("FIELD=VALUES")
      ->allow_extra_args(false);
  submit->add_option("--set", options->spec.sets, "Override a field: job.training.max_steps=10")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false);
  submit->add_flag("--dry-run", options->dry_run, "Check everything, create nothing");
  submit->add_flag("--wait", options->wait,
                   "Follow the experiment; the exit code tells how it ended");
  takes_timeout(submit);
  submit->add_option("--request-id", options->request_id,
                     "Submitting twice with one id makes one experiment");
  takes_name(add("get", "Show an experiment and its jobs", Show));
  add("list", "List experiments, newest first", List)
      ->add_option("--limit", options->limit, "At most so many")
      ->capture_default_str()
      ->check(Positive());
  CLI::App* watch = add("watch", "Follow an experiment until it ends", Watch);
  takes_name(watch);
  takes_timeout(watch);
  CLI::App* cancel = add("cancel", "Cancel an experiment and its jobs", Cancel);
  takes_name(cancel);
  cancel->add_option("--reason", options->reason, "Kept with the experiment");
  cancel->add_flag("--wait", options->wait, "Return when its jobs have stopped");
  takes_name(
      add("delete", "Delete an experiment (one that runs is cancelled; its jobs stay)", Delete));
  CLI::App* report = add("report", "Write its report: a page, CSV and JSON", Report);
  takes_name(report);
  report->add_option("--out", options->out, "Folder to write to (default: NAME-report)");
  return [options, verbs](Session& session) -> ExitCode {
    for (const SubVerb& verb : *verbs) {
      if (verb.app->parsed()) return verb.run(*options, session);
    }
    throw CliError(kInvalidInput, "experiment needs a verb; see liger-cli experiment --help");
  };
}

}  // namespace liger::client
