#include "server/store/attempts.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace liger::server {
namespace {

// Epochs are shown without the store's generation, which is 0 unless a backup
// was restored.
int64_t AttemptNumber(int64_t epoch) { return epoch & 0xffffffff; }

absl::Status RetryOrFail(Transaction& txn, JobRow* job, const AttemptEnd& end) {
  const std::string& cause = end.failure.message();
  if (end.retry && end.free) {
    return txn.SetJobState(job, liger::v1::JobStatus::RECOVERING,
                           {"WorkerStopped",
                            absl::StrCat("attempt ", AttemptNumber(job->epoch), " ended: ", cause,
                                         "; it will be run again, which costs no restart"),
                            ""});
  }
  if (end.retry && job->restarts < end.max_restarts) {
    ++job->restarts;
    return txn.SetJobState(job, liger::v1::JobStatus::RECOVERING,
                           {"AttemptLost",
                            absl::StrCat("attempt ", AttemptNumber(job->epoch),
                                         " was lost: ", cause, "; it will be run again (restart ",
                                         job->restarts, " of ", end.max_restarts, ")"),
                            ""});
  }
  liger::v1::Failure failure = end.failure;
  if (end.retry) {
    failure.set_message(absl::StrCat(cause, "; given up after ", job->restarts, " restarts"));
    failure.set_action(
        "look at the workers (liger-cli workers) and the job's log (liger-cli logs), then submit "
        "the job again");
  }
  return FailWith(txn, job, FailureReason(failure.class_()), failure);
}

}  // namespace

liger::trainer::v1::Ref TrainRef(const std::string& job_uid, int64_t epoch) {
  liger::trainer::v1::Ref ref;
  ref.set_job_uid(job_uid);
  ref.set_epoch(epoch);
  ref.set_task_id(kTrainTaskId);
  return ref;
}

liger::trainer::v1::Ref CheckRef(const TaskRow& task) {
  liger::trainer::v1::Ref ref;
  ref.set_job_uid(task.job_uid);
  ref.set_task_id(task.task_id);
  return ref;
}

bool IsCurrent(const JobRow& job, const AttemptRow& attempt) {
  return job.epoch == attempt.epoch && !IsOver(attempt.state) && HasLiveAttempt(job.state);
}

bool HasCommittedModel(const ReadView& view, const JobRow& job, int64_t epoch) {
  for (const ArtifactRow& artifact : view.Artifacts(job.tenant, job.uid)) {
    if (artifact.epoch == epoch && artifact.kind == "model") return true;
  }
  return false;
}

std::vector<PublishAnswer> CommittedAnswers(const ReadView& view, const JobRow& job, int64_t epoch,
                                            const std::string& worker_id) {
  std::vector<PublishAnswer> answers;
  for (const ArtifactRow& artifact : view.Artifacts(job.tenant, job.uid)) {
    if (artifact.epoch != epoch || artifact.worker_id != worker_id) continue;
    PublishAnswer& answer = answers.emplace_back();
    answer.worker_id = worker_id;
    answer.ref = TrainRef(job.uid, epoch);
    answer.publication_id = artifact.publication_id;
    answer.granted = true;
    answer.output_uri = artifact.uri;
  }
  return answers;
}

std::vector<TaskStop> StopsFor(const ReadView& view, const std::string& job_uid, int64_t epoch,
                               const std::string& except_worker) {
  std::vector<TaskStop> stops;
  for (const MemberRow& member : view.Members(job_uid, epoch)) {
    if (member.released_us != 0 || member.worker_id == except_worker) continue;
    stops.push_back({member.worker_id, TrainRef(job_uid, epoch)});
  }
  return stops;
}

void ReleaseMember(Transaction& txn, MemberRow* member) {
  if (member->released_us == 0) member->released_us = txn.now_us();
  txn.tables().PutMember(*member);
}

absl::Status MarkRunning(Transaction& txn, JobRow* job, AttemptRow* attempt) {
  if (attempt->state != AttemptState::kStarting) return absl::OkStatus();
  attempt->state = AttemptState::kRunning;
  txn.tables().PutAttempt(*attempt);
  if (job->state != liger::v1::JobStatus::STARTING) return absl::OkStatus();  // CANCELLING
  return txn.SetJobState(
      job, liger::v1::JobStatus::RUNNING,
      {"Started", absl::StrCat("attempt ", AttemptNumber(attempt->epoch), " runs"), ""});
}

absl::Status EndAttempt(Transaction& txn, JobRow* job, AttemptRow* attempt, const AttemptEnd& end) {
  const bool committed = HasCommittedModel(txn.tables(), *job, attempt->epoch);
  const bool cancelled = !committed && job->state == liger::v1::JobStatus::CANCELLING;
  attempt->state = committed   ? AttemptState::kSucceeded
                   : cancelled ? AttemptState::kCancelled
                               : end.state;
  attempt->ended_us = txn.now_us();
  attempt->failure_class = end.failure.class_();
  attempt->first_failed_rank = end.failure.first_failed_rank();
  attempt->detail = end.failure.message();
  txn.tables().PutAttempt(*attempt);
  txn.AddEvent(job, "AttemptEnded", {AttemptStateName(attempt->state), attempt->detail, ""});

  if (committed) {
    return txn.SetJobState(
        job, liger::v1::JobStatus::SUCCEEDED,
        {"Published", absl::StrCat("the model is at ", job->status.output_uri()), ""});
  }
  if (cancelled) {
    return txn.SetJobState(job, liger::v1::JobStatus::CANCELLED,
                           {job->reason, job->status.message(), ""});
  }
  return RetryOrFail(txn, job, end);
}

absl::Status LoseAttempt(Transaction& txn, JobRow* job, AttemptRow* attempt,
                         const std::string& detail, int32_t max_restarts) {
  AttemptEnd end{.state = AttemptState::kLost, .retry = true, .max_restarts = max_restarts};
  end.failure.set_class_(liger::v1::FAILURE_CLASS_INFRA);
  end.failure.set_message(detail);
  end.failure.set_action("look at the workers (liger-cli workers) and submit the job again");
  return EndAttempt(txn, job, attempt, end);
}

absl::Status Abandon(Transaction& txn, JobRow* job, AttemptRow* attempt,
                     const std::string& detail) {
  attempt->state = AttemptState::kCancelled;
  attempt->ended_us = txn.now_us();
  attempt->detail = detail;
  txn.tables().PutAttempt(*attempt);
  txn.AddEvent(job, "AttemptEnded", {"NotStarted", detail, ""});
  if (job->state == liger::v1::JobStatus::CANCELLING) {
    return txn.SetJobState(job, liger::v1::JobStatus::CANCELLED,
                           {job->reason, job->status.message(), ""});
  }
  return txn.SetJobState(job, liger::v1::JobStatus::QUEUED, {"NotStarted", detail, ""});
}

absl::Status FailWith(Transaction& txn, JobRow* job, const std::string& reason,
                      const liger::v1::Failure& failure) {
  *job->status.mutable_failure() = failure;
  return txn.SetJobState(job, liger::v1::JobStatus::FAILED,
                         {reason, failure.message(), failure.action()});
}

const char* FailureReason(liger::v1::FailureClass failure_class) {
  switch (failure_class) {
    case liger::v1::FAILURE_CLASS_OOM_DEVICE:
      return "OutOfDeviceMemory";
    case liger::v1::FAILURE_CLASS_OOM_HOST:
      return "OutOfHostMemory";
    case liger::v1::FAILURE_CLASS_NAN:
      return "NotFinite";
    case liger::v1::FAILURE_CLASS_DATA:
      return "BadData";
    case liger::v1::FAILURE_CLASS_CONFIG:
      return "BadConfig";
    case liger::v1::FAILURE_CLASS_INFRA:
      return "Infrastructure";
    case liger::v1::FAILURE_CLASS_HANG:
      return "Hang";
    case liger::v1::FAILURE_CLASS_STORAGE:
      return "Storage";
    default:
      return "Failed";
  }
}

}  // namespace liger::server
