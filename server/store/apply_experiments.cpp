#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors/errors.h"
#include "server/store/apply.h"
#include "server/store/outputs.h"

namespace liger::server {
namespace {

using liger::v1::Experiment;

// Under a new revision.
void Save(ExperimentRow* row, Transaction& txn) {
  row->revision = txn.tables().NextSequence("experiment_revision");
  row->state = row->experiment.state();
  row->experiment.set_revision(row->revision);
  txn.tables().PutExperiment(*row);
}

// Its jobs are cancelled by the loop of server/experiments.
void BeginCancel(ExperimentRow* row, const std::string& why) {
  if (row->state != Experiment::RUNNING) return;
  row->experiment.set_state(Experiment::CANCELLING);
  row->experiment.set_message(why);
}

// The artifacts of a job, to be removed by the workers that have them.
void ReclaimOutputs(const std::string& job_uid, std::vector<ReclaimRow>* reclaims,
                    Transaction& txn) {
  std::optional<JobRow> job = txn.tables().Job(job_uid);
  if (!job.has_value()) return;
  const std::vector<ArtifactRow> artifacts = txn.tables().Artifacts(job->tenant, job->uid);
  if (artifacts.empty()) return;
  for (const ArtifactRow& artifact : artifacts) {
    ReclaimArtifact(txn.tables(), artifact, reclaims);
    txn.tables().DropArtifact(artifact.id);
  }
  job->status.clear_output_uri();
  if (job->state == liger::v1::JobStatus::SUCCEEDED) {
    job->status.set_message("its output was removed: its experiment keeps none (keep_outputs)");
  }
  txn.AddEvent(&*job, "OutputRemoved", {"Experiment", "its experiment keeps no outputs", ""});
}

}  // namespace

absl::StatusOr<CreateExperiment::Result> Run(const CreateExperiment& command, Transaction& txn) {
  Tables& tables = txn.tables();
  const absl::StatusOr<std::optional<std::string>> earlier =
      EarlierUid(tables, command.row.tenant, kCreateExperimentMethod, command.request_id,
                 command.body_hash, txn.now_us());
  if (!earlier.ok()) return earlier.status();
  if (earlier->has_value()) {
    const std::optional<ExperimentRow> row = tables.Experiment(**earlier);
    if (row.has_value() && row->deleted_us != 0) {
      return ErrorWithReason(
          absl::StatusCode::kAlreadyExists, "REQUEST_ID_REUSED",
          absl::StrCat("request_id '", command.request_id, "' made the experiment '", row->name,
                       "', which was deleted; use a new one"));
    }
    if (row.has_value()) return CreateExperiment::Result{ToProto(tables, *row), true};
  }
  const absl::Status free = CheckNewExperiment(tables, command.row.tenant, command.row.name);
  if (!free.ok()) return free;
  ExperimentRow row = command.row;
  row.created_us = txn.now_us();
  row.experiment.set_state(Experiment::RUNNING);
  *row.experiment.mutable_create_time() = ToTimestamp(row.created_us);
  if (!command.request_id.empty()) {
    tables.PutRequest({row.tenant, kCreateExperimentMethod, command.request_id, command.body_hash,
                       row.uid, command.request_expires_us});
  }
  Save(&row, txn);
  return CreateExperiment::Result{ToProto(tables, row), false};
}

absl::StatusOr<SaveExperiment::Result> Run(const SaveExperiment& command, Transaction& txn) {
  std::optional<ExperimentRow> row = txn.tables().Experiment(command.uid);
  if (!row.has_value() || row->revision != command.revision) {
    return absl::AbortedError("the experiment has changed meanwhile");
  }
  row->experiment = command.experiment;
  Save(&*row, txn);
  for (const ResultRow& result : command.results) txn.tables().PutResult(result);
  SaveExperiment::Result result;
  for (const std::string& uid : command.reclaim_jobs) ReclaimOutputs(uid, &result.reclaims, txn);
  return result;
}

absl::StatusOr<CancelExperiment::Result> Run(const CancelExperiment& command, Transaction& txn) {
  absl::StatusOr<ExperimentRow> row =
      FindExperiment(txn.tables(), command.tenant, command.experiment);
  if (!row.ok()) return row.status();
  if (row->state == Experiment::RUNNING) {
    BeginCancel(&*row, command.reason.empty()
                           ? "cancelled on request"
                           : absl::StrCat("cancelled on request: ", command.reason));
    Save(&*row, txn);
  }
  return CancelExperiment::Result{ToProto(txn.tables(), *row)};
}

absl::StatusOr<DeleteExperiment::Result> Run(const DeleteExperiment& command, Transaction& txn) {
  absl::StatusOr<ExperimentRow> row =
      FindExperiment(txn.tables(), command.tenant, command.experiment);
  if (!row.ok()) return row.status();
  BeginCancel(&*row, "deleted while it ran");
  row->deleted_us = txn.now_us();
  Save(&*row, txn);
  return DeleteExperiment::Result{row->uid};
}

}  // namespace liger::server
