#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors/errors.h"
#include "server/store/apply.h"
#include "server/store/attempts.h"
#include "server/store/outputs.h"

namespace liger::server {
namespace {

// A check that may still run: its worker should stop it.
std::vector<TaskStop> CancelChecks(Transaction& txn, const std::string& job_uid) {
  std::vector<TaskStop> stops;
  for (TaskRow& task : txn.tables().Tasks(job_uid)) {
    if (task.state != TaskState::kRunning) continue;
    task.state = TaskState::kCancelled;
    txn.tables().PutTask(task);
    stops.push_back({task.worker_id, CheckRef(task)});
  }
  return stops;
}

std::string WhyNotPausable(liger::v1::JobStatus::State state) {
  if (state == liger::v1::JobStatus::VALIDATING) {
    return "a worker checks it; pause it once it is QUEUED, or cancel it";
  }
  const std::string name = liger::v1::JobStatus::State_Name(state);
  return IsTerminal(state) ? absl::StrCat("it has ended (", name, ")")
                           : absl::StrCat("it is ", name);
}

absl::Status NotPausable(const JobRow& job, const std::string& why) {
  return ErrorWithReason(absl::StatusCode::kFailedPrecondition, "JOB_NOT_PAUSABLE",
                         absl::StrCat("job '", job.name, "' cannot be paused: ", why));
}

}  // namespace

absl::StatusOr<CreateJob::Result> Run(const CreateJob& command, Transaction& txn) {
  Tables& tables = txn.tables();
  absl::StatusOr<std::optional<JobRow>> earlier =
      EarlierJob(tables, command.job.tenant, command.request_id, command.body_hash, txn.now_us());
  if (!earlier.ok()) return earlier.status();
  if (earlier->has_value()) return CreateJob::Result{ToProto(tables, **earlier), true};

  JobRow job = command.job;
  job.output = OutputPath(job.resolved_spec.output().uri());
  if (absl::Status admissible = CheckNewJob(tables, job); !admissible.ok()) return admissible;
  if (tables.Job(job.uid).has_value()) return absl::InternalError("job uid was used before");
  job.state = liger::v1::JobStatus::VALIDATING;
  job.reason = "Submitted";
  job.status.set_message("waits for a worker to check it");
  job.created_us = job.state_since_us = txn.now_us();
  tables.PutLabels(job.uid, {job.spec.labels().begin(), job.spec.labels().end()});
  if (!command.request_id.empty()) {
    tables.PutRequest({job.tenant, kCreateMethod, command.request_id, command.body_hash, job.uid,
                       command.request_expires_us});
  }
  txn.AddEvent(&job, "Created", {job.reason, "", ""});
  return CreateJob::Result{ToProto(tables, job), false};
}

absl::StatusOr<CancelJob::Result> Run(const CancelJob& command, Transaction& txn) {
  absl::StatusOr<JobRow> job = FindJob(txn.tables(), command.tenant, command.job);
  if (!job.ok()) return job.status();
  CancelJob::Result result;
  const bool runs = HasLiveAttempt(job->state);
  const bool settled = IsTerminal(job->state) || job->state == liger::v1::JobStatus::CANCELLING ||
                       (runs && HasVisibleModel(txn.tables(), *job, job->epoch));
  if (!settled) {
    const std::string message = command.reason.empty()
                                    ? "cancelled on request"
                                    : absl::StrCat("cancelled on request: ", command.reason);
    result.stops =
        runs ? StopsFor(txn.tables(), job->uid, job->epoch) : CancelChecks(txn, job->uid);
    const absl::Status moved = txn.SetJobState(
        &*job, runs ? liger::v1::JobStatus::CANCELLING : liger::v1::JobStatus::CANCELLED,
        {"Cancelled", message, ""});
    if (!moved.ok()) return moved;
  }
  result.job = ToProto(txn.tables(), *job);
  return result;
}

absl::StatusOr<PauseJob::Result> Run(const PauseJob& command, Transaction& txn) {
  absl::StatusOr<JobRow> job = FindJob(txn.tables(), command.tenant, command.job);
  if (!job.ok()) return job.status();
  PauseJob::Result result;
  const std::string message =
      command.reason.empty() ? "on request" : absl::StrCat("on request: ", command.reason);
  absl::Status moved;
  switch (job->state) {
    case liger::v1::JobStatus::PAUSING:
    case liger::v1::JobStatus::PAUSED:
      break;
    case liger::v1::JobStatus::STARTING:
    case liger::v1::JobStatus::RUNNING:
      if (HasVisibleModel(txn.tables(), *job, job->epoch)) {
        return NotPausable(*job, "its result exists already");
      }
      if (HasCommittedModel(txn.tables(), *job, job->epoch)) {
        return NotPausable(*job, "its model is being published; wait for its end, or cancel it");
      }
      result.pauses = StopsFor(txn.tables(), job->uid, job->epoch);
      moved = txn.SetJobState(
          &*job, liger::v1::JobStatus::PAUSING,
          {"Pausing",
           absl::StrCat("pauses ", message, "; it finishes its step and saves a checkpoint"), ""});
      break;
    case liger::v1::JobStatus::QUEUED:
    case liger::v1::JobStatus::RECOVERING:
      moved = txn.SetJobState(&*job, liger::v1::JobStatus::PAUSED,
                              {"Paused", absl::StrCat("paused ", message),
                               absl::StrCat("liger-cli resume ", job->name)});
      break;
    default:
      return NotPausable(*job, WhyNotPausable(job->state));
  }
  if (!moved.ok()) return moved;
  result.job = ToProto(txn.tables(), *job);
  return result;
}

absl::StatusOr<ResumeJob::Result> Run(const ResumeJob& command, Transaction& txn) {
  absl::StatusOr<JobRow> job = FindJob(txn.tables(), command.tenant, command.job);
  if (!job.ok()) return job.status();
  const bool leaves = job->state == liger::v1::JobStatus::PAUSING ||
                      job->state == liger::v1::JobStatus::CANCELLING;
  if (IsTerminal(job->state) || leaves) {
    return ErrorWithReason(
        absl::StatusCode::kFailedPrecondition, "JOB_NOT_PAUSED",
        absl::StrCat("job '", job->name, "' is ", liger::v1::JobStatus::State_Name(job->state),
                     job->state == liger::v1::JobStatus::PAUSING ? "; resume it once it is PAUSED"
                                                                 : "; it cannot be resumed"));
  }
  if (job->state == liger::v1::JobStatus::PAUSED) {
    const absl::Status moved = txn.SetJobState(&*job, liger::v1::JobStatus::QUEUED,
                                               {"Resumed", "waits for a free device", ""});
    if (!moved.ok()) return moved;
  }
  return ResumeJob::Result{ToProto(txn.tables(), *job)};
}

absl::StatusOr<ForceCancel::Result> Run(const ForceCancel& command, Transaction& txn) {
  std::optional<JobRow> job = txn.tables().Job(command.job_uid);
  if (!job.has_value() || job->epoch != command.epoch ||
      job->state != liger::v1::JobStatus::CANCELLING) {
    return ForceCancel::Result{};
  }
  std::optional<AttemptRow> attempt = txn.tables().Attempt(job->uid, job->epoch);
  if (!attempt.has_value()) return absl::InternalError("a CANCELLING job without an attempt");
  AttemptEnd end{.state = AttemptState::kCancelled};
  end.failure.set_message("its worker did not report the end in time");
  const absl::Status ended = EndAttempt(txn, &*job, &*attempt, end);
  if (!ended.ok()) return ended;
  return ForceCancel::Result{};
}

absl::StatusOr<FailJob::Result> Run(const FailJob& command, Transaction& txn) {
  std::optional<JobRow> job = txn.tables().Job(command.job_uid);
  if (!job.has_value() ||
      !(job->state == liger::v1::JobStatus::VALIDATING || AwaitsPlacement(job->state))) {
    return FailJob::Result{};
  }
  CancelChecks(txn, job->uid);
  const absl::Status failed = FailWith(txn, &*job, command.reason, command.failure);
  if (!failed.ok()) return failed;
  return FailJob::Result{};
}

absl::StatusOr<DeleteJob::Result> Run(const DeleteJob& command, Transaction& txn) {
  absl::StatusOr<JobRow> job = FindJob(txn.tables(), command.tenant, command.job);
  if (!job.ok()) return job.status();
  if (!IsTerminal(job->state)) {
    return ErrorWithReason(
        absl::StatusCode::kFailedPrecondition, "JOB_NOT_TERMINAL",
        absl::StrCat("job '", job->name, "' is ", liger::v1::JobStatus::State_Name(job->state),
                     "; cancel it first"));
  }
  DeleteJob::Result result;
  result.job_uid = job->uid;
  if (command.delete_output) {
    for (const ArtifactRow& artifact : txn.tables().Artifacts(job->tenant, job->uid)) {
      ReclaimArtifact(txn.tables(), artifact, &result.reclaims);
      txn.tables().DropArtifact(artifact.id);
    }
  }
  result.log_files = txn.tables().LogFiles(job->uid);
  job->deleted_us = txn.now_us();
  txn.AddEvent(&*job, "Deleted", {"Deleted", "", ""});
  return result;
}

absl::StatusOr<FinishReclaims::Result> Run(const FinishReclaims& command, Transaction& txn) {
  for (const ReclaimRow& output : command.outputs) txn.tables().DropReclaim(output);
  return FinishReclaims::Result{};
}

absl::StatusOr<SetWaitReasons::Result> Run(const SetWaitReasons& command, Transaction& txn) {
  for (const SetWaitReasons::Reason& reason : command.reasons) {
    std::optional<JobRow> job = txn.tables().Job(reason.job_uid);
    if (!job.has_value() ||
        !(job->state == liger::v1::JobStatus::VALIDATING || AwaitsPlacement(job->state))) {
      continue;
    }
    if (job->reason == reason.reason && job->status.message() == reason.message &&
        job->status.action() == reason.action) {
      continue;
    }
    job->reason = reason.reason;
    job->status.set_message(reason.message);
    job->status.set_action(reason.action);
    txn.SaveJob(&*job);
  }
  return SetWaitReasons::Result{};
}

}  // namespace liger::server
