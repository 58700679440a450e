#include <iostream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/commands/commands.h"
#include "client/errors.h"
#include "client/format.h"
#include "client/job_builder.h"
#include "client/watch.h"
#include "common/ids.h"
#include "common/spec/spec.h"
#include "common/spec/yaml_proto.h"

namespace liger::client {
namespace {

struct Options {
  SpecFlags spec;
  bool dry_run = false;
  bool wait = false;
  double timeout_seconds = 0;
  std::string request_id;
};

// Why `submit` would refuse the name that a dry run has checked the rest of. Empty: it would not.
std::string NameTaken(const liger::v1::CreateJobResponse& response) {
  for (const auto& warning : response.warnings()) {
    if (warning.code() == "NameTaken") return warning.message();
  }
  return "";
}

void PrintDryRun(const liger::v1::CreateJobResponse& response, bool name_taken) {
  const bool warned = response.warnings_size() > (name_taken ? 1 : 0);
  std::cout << (name_taken ? "valid but for the name" : "valid")
            << (warned ? ", with the warnings above" : "") << "; nothing was created\n";
  for (const auto& check : response.checks_run()) std::cout << "  checked: " << check << "\n";
  for (const auto& check : response.checks_skipped()) {
    std::cout << "  not checked: " << check << "\n";
  }
  std::cout << "resolved spec:\n" << ToYaml(response.job().resolved_spec());
}

ExitCode Submit(const Options& options, Session& session) {
  liger::v1::CreateJobRequest request;
  std::vector<std::string> notes;
  *request.mutable_spec() = BuildSpec(options.spec, &notes);
  const auto& spec = request.spec();
  const bool has_model = !spec.model().name().empty() || !spec.model().uri().empty();
  if (options.spec.file.empty() && (!has_model || MethodName(spec).empty())) {
    throw CliError(kInvalidInput,
                   "submit needs --model and --trainer, or a job file (-f; liger-cli init writes "
                   "one)");
  }
  for (const std::string& note : notes) std::cerr << "note: " << note << "\n";
  request.set_validate_only(options.dry_run);
  // A retry inside gRPC must not make a second job.
  request.set_request_id(options.request_id.empty() ? NewUuid() : options.request_id);
  auto response = session.connection().Call(&liger::v1::FineTuning::StubInterface::CreateJob,
                                            request, options.dry_run ? 150 : 30);
  for (const std::string& notice : response.notices()) std::cerr << "note: " << notice << "\n";
  const std::string name_taken = options.dry_run ? NameTaken(response) : "";
  for (const auto& warning : response.warnings()) {
    if (!name_taken.empty() && warning.message() == name_taken) continue;  // the error at the end
    std::cerr << "warning: " << Printable(warning.message()) << "\n";
  }

  const std::string name = response.job().name();
  const bool wait = options.wait && !options.dry_run;
  if (session.output == Output::kName) {
    std::cout << name << "\n" << std::flush;
  } else if (session.output == Output::kTable && options.dry_run) {
    PrintDryRun(response, !name_taken.empty());
  } else if (session.output == Output::kTable) {
    std::cout << "job " << name << " submitted\n" << std::flush;
    if (!wait) std::cout << "follow it: liger-cli watch " << name << "\n";
  }
  ExitCode code = kOk;
  if (wait) {
    const Followed end = FollowJob(session.connection(), response.job().uid(),
                                   options.timeout_seconds, ScreenFor(session.output));
    code = end.code;
    if (!end.job.uid().empty()) *response.mutable_job() = end.job;
  }
  // One document, with the job as it was seen last.
  if (session.output == Output::kJson || session.output == Output::kYaml) {
    PrintMessage(response, session.output);
  }
  // As the submit itself would end.
  if (!name_taken.empty()) {
    std::cout << std::flush;
    throw CliError(kInvalidInput, absl::StrCat("submit would be refused: ", name_taken));
  }
  return code;
}

}  // namespace

Action DeclareSubmit(CLI::App* app) {
  auto options = std::make_shared<Options>();
  SpecFlags& spec = options->spec;
  app->add_option("-f,--file", spec.file, "Job file (YAML or JSON; - for standard input)");
  app->add_option("--model", spec.model, "Catalog name, or path of a Hugging Face folder");
  app->add_option("--trainer", spec.trainer, "sft, dpo, orpo, kto or cpo");
  app->add_option("--dataset", spec.dataset,
                  "Catalog name, or path of a file (JSON, JSON lines, CSV, Parquet, Arrow), a "
                  "folder or a pattern");
  app->add_option("--kernels", spec.kernels, "liger (default) or baseline");
  app->add_option("--device", spec.device, "cpu or cuda (default: cuda when a worker has one)");
  app->add_option("--name", spec.name, "Name of the job (default: made from trainer and model)")
      ->check(NotEmpty());
  app->add_option(
      "--output", spec.output,
      "Folder for the result, below the worker's output root (default: the job's name)");
  app->add_option("--set", spec.sets, "Override a field: training.learning_rate=1e-5")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false);
  app->add_option("--label", spec.labels, "Label the job: team=nlp")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app->add_flag("--dry-run", options->dry_run, "Check everything, create nothing");
  CLI::Option* wait =
      app->add_flag("--wait", options->wait, "Follow the job; the exit code tells how it ended");
  app->add_option("--timeout", options->timeout_seconds,
                  "With --wait: give up after this long (default: never)")
      ->type_name("SECONDS")
      ->needs(wait)
      ->check(Positive());
  app->add_option("--request-id", options->request_id,
                  "Submitting twice with one id makes one job");
  return [options](Session& session) { return Submit(*options, session); };
}

}  // namespace liger::client
