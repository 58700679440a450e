// What reads of experiments have in common.

#include "absl/strings/str_cat.h"
#include "server/errors/errors.h"
#include "server/store/read_view.h"

namespace liger::server {
namespace {

using liger::v1::Experiment;
using liger::v1::ExperimentJob;

void Count(const ExperimentJob& job, liger::v1::ExperimentCounts* counts) {
  counts->set_jobs(counts->jobs() + 1);
  if (job.cached()) counts->set_cached(counts->cached() + 1);
  switch (job.outcome()) {
    case ExperimentJob::ACTIVE:
      return counts->set_active(counts->active() + 1);
    case ExperimentJob::SUCCEEDED:
      return counts->set_succeeded(counts->succeeded() + 1);
    case ExperimentJob::OUT_OF_MEMORY:
      return counts->set_out_of_memory(counts->out_of_memory() + 1);
    case ExperimentJob::FAILED:
      return counts->set_failed(counts->failed() + 1);
    case ExperimentJob::CANCELLED:
      return counts->set_cancelled(counts->cancelled() + 1);
    default:
      return counts->set_pending(counts->pending() + 1);
  }
}

}  // namespace

absl::StatusOr<ExperimentRow> FindExperiment(const ReadView& view, const std::string& tenant,
                                             const std::string& name_or_uid) {
  std::optional<ExperimentRow> row = view.Experiment(name_or_uid);
  if (row.has_value() && (row->tenant != tenant || row->deleted_us != 0)) row.reset();
  if (!row.has_value()) row = view.ExperimentByName(tenant, name_or_uid);
  if (!view.status().ok()) return view.status();
  if (!row.has_value()) {
    return ErrorWithReason(absl::StatusCode::kNotFound, "EXPERIMENT_NOT_FOUND",
                           absl::StrCat("no experiment '", name_or_uid,
                                        "'; liger-cli experiment list shows those there are"),
                           {{"experiment", name_or_uid}});
  }
  return *std::move(row);
}

absl::Status CheckNewExperiment(const ReadView& view, const std::string& tenant,
                                const std::string& name) {
  if (!view.ExperimentByName(tenant, name).has_value()) return absl::OkStatus();
  return ErrorWithReason(
      absl::StatusCode::kAlreadyExists, "EXPERIMENT_NAME_TAKEN",
      absl::StrCat("an experiment named '", name, "' exists; choose another name (--name, or ",
                   "`name` in the file), or delete it (liger-cli experiment delete ", name, ")"),
      {{"name", name}});
}

Experiment ToProto(const ReadView& view, const ExperimentRow& row) {
  Experiment experiment = row.experiment;
  experiment.clear_counts();
  for (ExperimentJob& job : *experiment.mutable_jobs()) {
    Count(job, experiment.mutable_counts());
    if (job.outcome() != ExperimentJob::ACTIVE) continue;
    const std::optional<JobRow> found = view.Job(job.job_uid());
    if (!found.has_value()) continue;
    job.set_job_state(found->state);
    job.set_step(found->status.progress().step());
    job.set_max_steps(found->status.progress().max_steps());
    if (!IsTerminal(found->state)) job.set_message(found->status.message());
  }
  return experiment;
}

}  // namespace liger::server
