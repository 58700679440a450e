#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands/commands.h"
#include "client/format.h"
#include "common/spec/spec.h"
#include "common/spec/yaml_proto.h"

namespace liger::client {
namespace {

using liger::v1::Job;

// Shorter than that is a long step.
constexpr double kNotableIdleSeconds = 60;

void Line(const char* key, const std::string& value) {
  if (!value.empty()) std::cout << absl::StrFormat("%-12s %s\n", key, value);
}

void PrintProgress(const liger::v1::Progress& progress) {
  if (progress.max_steps() > 0) {
    Line("step", absl::StrCat(progress.step(), " of ", progress.max_steps()));
  }
  for (const auto& [name, value] : progress.values()) Line(name.c_str(), Number(value));
  if (progress.mean_tokens_per_second() > 0) {
    Line("tokens/s", absl::StrFormat("%.0f (mean)", progress.mean_tokens_per_second()));
  }
  Line("peak memory", PeakMemory(progress));
  if (progress.idle_seconds() > kNotableIdleSeconds) {
    Line("idle", absl::StrCat("no progress for ", Duration(progress.idle_seconds())));
  }
}

void PrintHistory(const liger::v1::JobStatus& status) {
  for (const auto& evaluation : status.evaluations()) {
    std::string values;
    for (const auto& [name, value] : evaluation.values()) {
      absl::StrAppend(&values, values.empty() ? "" : "  ", name, " ", Number(value));
    }
    Line(absl::StrCat("eval @", evaluation.step()).c_str(), values);
  }
  for (const auto& sample : status.samples()) {
    Line(absl::StrCat("sample @", sample.step()).c_str(),
         Printable(absl::StrCat(sample.prompt(), " -> ", sample.text())));
  }
  for (const auto& warning : status.warnings()) Line("warning", Printable(warning.message()));
  for (const auto& attempt : status.attempts()) {
    Line(absl::StrCat("attempt ", attempt.epoch()).c_str(),
         absl::StrCat(attempt.state(), " on ", attempt.worker_id(),
                      attempt.detail().empty() ? "" : ": ", Printable(attempt.detail())));
  }
  std::string kernels;
  for (const auto& kernel : status.kernels_ran()) {
    absl::StrAppend(&kernels, kernels.empty() ? "" : " ", kernel.op(), "=", kernel.path());
  }
  Line("kernels", kernels);
}

// Leads with what a person wants to know: state, cause, action, output.
void PrintJob(const Job& job) {
  const auto& status = job.status();
  std::cout << job.name() << "  " << StateName(status.state()) << "\n";
  Line("cause", Printable(status.message()));
  Line("action", Printable(status.action()));
  Line("output", status.output_uri());
  if (!status.failure().log_tail().empty()) {
    std::cout << "last log lines:\n" << Printable(status.failure().log_tail()) << "\n";
  }
  Line("trainer", MethodName(job.resolved_spec()));
  Line("model", job.resolved_spec().model().name());
  Line("dataset", job.resolved_spec().dataset().name());
  PrintProgress(status.progress());
  PrintHistory(status);
  Line("uid", job.uid());
  Line("spec hash", job.spec_hash());
  Line("created", Age(job.create_time(), absl::Now()) + " ago");
}

}  // namespace

Action DeclareGet(CLI::App* app) {
  struct Options {
    std::string job;
    bool spec = false;
  };
  auto options = std::make_shared<Options>();
  app->add_option("job", options->job, "Name or uid")->required();
  app->add_flag("--spec", options->spec, "Print the resolved spec, as a job file");
  return [options](Session& session) {
    liger::v1::GetJobRequest request;
    request.set_job(options->job);
    const Job job =
        session.connection().Call(&liger::v1::FineTuning::StubInterface::GetJob, request);
    const bool table = session.output == Output::kTable;
    if (options->spec && table) {
      std::cout << ToYaml(job.resolved_spec());
    } else if (options->spec && session.output != Output::kName) {
      PrintMessage(job.resolved_spec(), session.output);
    } else if (table) {
      PrintJob(job);
    } else {
      PrintForProgram(job, session.output);
    }
    return kOk;
  };
}

}  // namespace liger::client
