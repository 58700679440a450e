#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/commands/commands.h"
#include "client/format.h"
#include "common/spec/saved_model.h"
#include "common/spec/spec.h"
#include "common/spec/yaml_proto.h"

namespace liger::client {
namespace {

using liger::v1::Job;

// Shorter than that is a long step.
constexpr double kNotableIdleSeconds = 60;
constexpr size_t kValueColumn = 20;  // behind "mean_token_accuracy"

// A job's values, one a line; wrapped within a terminal.
class Lines {
 public:
  explicit Lines(int columns) : columns_(columns) {}

  void operator()(const std::string& key, const std::string& value) const {
    if (value.empty()) return;
    const std::string line =
        absl::StrFormat("%-*s %s", static_cast<int>(kValueColumn) - 1, key, Printable(value));
    std::cout << Wrap(line, columns_, kValueColumn) << "\n";
  }

 private:
  int columns_;
};

void PrintProgress(const liger::v1::Progress& progress, const Lines& line) {
  if (progress.max_steps() > 0) {
    line("step", absl::StrCat(progress.step(), " of ", progress.max_steps()));
  }
  // Speed and memory stand behind the losses.
  auto values = InOrder(progress.values());
  for (const char* name : {"loss", "eval_loss"}) {
    if (const auto it = values.find(name); it != values.end()) line(name, Number(it->second));
    values.erase(name);
  }
  if (progress.mean_tokens_per_second() > 0) {
    line("tokens/s", absl::StrFormat("%.0f (mean)", progress.mean_tokens_per_second()));
  }
  line("peak memory", PeakMemory(progress, /*with_prediction=*/true));
  for (const auto& rank : progress.ranks()) {
    liger::v1::Progress own;
    *own.mutable_peak_memory_bytes() = rank.peak_memory_bytes();
    const std::string peak = PeakMemory(own);
    line(absl::StrCat("rank ", rank.rank()),
         absl::StrCat("step ", rank.step(), peak.empty() ? "" : ", peak ", peak));
  }
  if (progress.idle_seconds() > kNotableIdleSeconds) {
    line("idle", absl::StrCat("no progress for ", Duration(progress.idle_seconds())));
  }
  for (const auto& [name, value] : values) line(name, Number(value));
}

// "gpu1", "gpu1 (ranks 0, 1), gpu2 (ranks 2, 3)".
std::string Where(const liger::v1::Attempt& attempt) {
  if (attempt.device_uuids_size() < 2) return attempt.worker_id();
  std::string where;
  for (const auto& member : attempt.members()) {
    absl::StrAppend(&where, where.empty() ? "" : ", ", member.worker_id(), " (rank",
                    member.ranks_size() == 1 ? " " : "s ", absl::StrJoin(member.ranks(), ", "),
                    ")");
  }
  return where;
}

void PrintHistory(const liger::v1::JobStatus& status, const Lines& line) {
  for (const auto& evaluation : status.evaluations()) {
    std::string values;
    for (const auto& [name, value] : InOrder(evaluation.values())) {
      absl::StrAppend(&values, values.empty() ? "" : "  ", name, " ", Number(value));
    }
    line(absl::StrCat("eval @", evaluation.step()), values);
  }
  for (const auto& sample : status.samples()) {
    line(absl::StrCat("sample @", sample.step()),
         absl::StrCat(sample.prompt(), " -> ", sample.text()));
  }
  if (status.has_resumed()) line("resumed", ResumedText(status.resumed()));
  for (const auto& warning : status.warnings()) line("warning", warning.message());
  for (const auto& attempt : status.attempts()) {
    line(absl::StrCat("attempt ", attempt.epoch()),
         absl::StrCat(attempt.state(), " on ", Where(attempt),
                      attempt.detail().empty() ? "" : ": ", attempt.detail()));
  }
  std::string kernels;
  for (const auto& kernel : status.kernels_ran()) {
    absl::StrAppend(&kernels, kernels.empty() ? "" : " ", kernel.op(), "=", kernel.path());
  }
  line("kernels", kernels);
}

// Leads with what a person wants to know: state, cause, action, output.
void PrintJob(const Job& job, const Lines& line) {
  const auto& status = job.status();
  std::cout << job.name() << "  " << StateName(status.state()) << "\n";
  line("cause", Cause(status));
  line("action", status.action());
  line("output", status.output_uri());
  if (status.saved_step() > 0) line("saved", SavedModelText(status.saved_step(), status.best()));
  if (!status.failure().log_tail().empty()) {
    std::cout << "last log lines:\n" << Printable(status.failure().log_tail()) << "\n";
  }
  line("trainer", MethodName(job.resolved_spec()));
  line("model", job.resolved_spec().model().name());
  line("dataset", DatasetTitle(job.resolved_spec().dataset()));
  PrintProgress(status.progress(), line);
  PrintHistory(status, line);
  line("uid", job.uid());
  line("spec hash", job.spec_hash());
  line("created", Age(job.create_time(), absl::Now()) + " ago");
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
    Job job = session.connection().Call(&liger::v1::FineTuning::StubInterface::GetJob, request);
    const bool table = session.output == Output::kTable;
    if (options->spec && table) {
      std::cout << ToYaml(job.resolved_spec());
    } else if (options->spec && session.output != Output::kName) {
      PrintMessage(job.resolved_spec(), session.output);
    } else if (table) {
      session.NameWorkers(job.mutable_status());
      PrintJob(job, Lines(session.columns()));
    } else {
      PrintForProgram(job, session.output);
    }
    return kOk;
  };
}

}  // namespace liger::client
