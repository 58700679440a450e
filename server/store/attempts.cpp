#include "server/store/attempts.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/store/outputs.h"

namespace liger::server {
namespace {

std::optional<ArtifactRow> FindModel(const ReadView& view, const JobRow& job, int64_t epoch) {
  for (ArtifactRow& artifact : view.Artifacts(job.tenant, job.uid)) {
    if (artifact.epoch == epoch && artifact.kind == "model") return std::move(artifact);
  }
  return std::nullopt;
}

int WorldSize(const std::vector<MemberRow>& members) {
  int size = 0;
  for (const MemberRow& member : members) size += static_cast<int>(member.ranks.size());
  return size;
}

// Of several ranks the message says whose it is.
void NameRank(const std::vector<MemberRow>& members, liger::v1::Failure* failure) {
  if (WorldSize(members) < 2 || failure->first_failed_rank() < 0) return;
  const std::string name = absl::StrCat("rank ", failure->first_failed_rank());
  if (absl::StrContains(failure->message(), name)) return;
  failure->set_message(absl::StrCat(name, ": ", failure->message()));
}

// Ranks end well after one and the same step, which came after the last sign of life of some.
void LevelRanks(liger::v1::JobStatus* status) {
  if (status->progress().ranks().empty()) return;
  int64_t last = status->progress().step();
  for (const auto& rank : status->progress().ranks()) last = std::max(last, rank.step());
  for (auto& rank : *status->mutable_progress()->mutable_ranks()) rank.set_step(last);
}

// What a PAUSED job goes on from.
std::string GoesOnFrom(const ReadView& view, const JobRow& job) {
  const std::string checkpoint = NewestCheckpoint(view, job);
  return checkpoint.empty() ? "it will begin again, as it has no checkpoint"
                            : absl::StrCat("it goes on from ", checkpoint);
}

// The attempt was lost while the job was to leave its devices: it has.
absl::Status PauseInstead(Transaction& txn, JobRow* job, const AttemptEnd& end) {
  return txn.SetJobState(
      job, liger::v1::JobStatus::PAUSED,
      {"Paused",
       absl::StrCat("attempt ", AttemptNumber(job->epoch), " was lost before it had paused: ",
                    end.failure.message(), "; ", GoesOnFrom(txn.tables(), *job)),
       absl::StrCat("liger-cli resume ", job->name)});
}

absl::Status RetryOrFail(Transaction& txn, JobRow* job, const AttemptEnd& end) {
  const std::string& cause = end.failure.message();
  if (end.retry && job->state == liger::v1::JobStatus::PAUSING) return PauseInstead(txn, job, end);
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
  return FindModel(view, job, epoch).has_value();
}

bool HasVisibleModel(const ReadView& view, const JobRow& job, int64_t epoch) {
  const std::optional<ArtifactRow> model = FindModel(view, job, epoch);
  return model.has_value() && model->visible;
}

bool AwaitsModel(const ReadView& view, const JobRow& job, int64_t epoch) {
  const std::optional<ArtifactRow> model = FindModel(view, job, epoch);
  if (!model.has_value() || model->visible) return false;
  const std::vector<MemberRow> members = view.Members(job.uid, epoch);
  return std::any_of(members.begin(), members.end(), [&](const MemberRow& member) {
    return member.worker_id == model->worker_id && !member.exit.has_value() &&
           !IsGone(view, member);
  });
}

bool IsGone(const ReadView& view, const MemberRow& member) {
  if (member.exit.has_value()) return false;
  const std::optional<WorkerRow> worker = view.Worker(member.worker_id);
  return member.released_us != 0 || !worker.has_value() || worker->state == WorkerState::kLost;
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
  if (job->state != liger::v1::JobStatus::STARTING) return absl::OkStatus();  // to be left
  return txn.SetJobState(
      job, liger::v1::JobStatus::RUNNING,
      {"Started", absl::StrCat("attempt ", AttemptNumber(attempt->epoch), " runs"), ""});
}

absl::Status EndAttempt(Transaction& txn, JobRow* job, AttemptRow* attempt, const AttemptEnd& end) {
  const bool committed = HasVisibleModel(txn.tables(), *job, attempt->epoch);
  const bool cancelled = !committed && job->state == liger::v1::JobStatus::CANCELLING;
  attempt->state = committed   ? AttemptState::kSucceeded
                   : cancelled ? AttemptState::kCancelled
                               : end.state;
  attempt->ended_us = txn.now_us();
  // What ended it after its model was there, or in a cancel, is told, and no failure of it.
  const bool failed = !committed && !cancelled;
  const bool names_rank = failed && end.failure.has_first_failed_rank();
  if (failed) attempt->failure_class = end.failure.class_();
  attempt->first_failed_rank = names_rank ? end.failure.first_failed_rank() : -1;
  if (committed || attempt->state == AttemptState::kPaused) LevelRanks(&job->status);
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
  if (end.state == AttemptState::kPaused && !end.retry) {
    return txn.SetJobState(job, liger::v1::JobStatus::PAUSED,
                           {"Paused",
                            absl::StrCat("paused on request; ", GoesOnFrom(txn.tables(), *job)),
                            absl::StrCat("liger-cli resume ", job->name)});
  }
  return RetryOrFail(txn, job, end);
}

const MemberExit* CauseOf(const std::vector<MemberRow>& members, bool own) {
  // Its own failure, before one that follows from another's, before a stop.
  const auto kind = [](const MemberRow& member) {
    const MemberExit& exit = *member.exit;
    if (exit.outcome == AttemptState::kCancelled) return 2;
    const bool here = !exit.failure.has_first_failed_rank() ||
                      std::find(member.ranks.begin(), member.ranks.end(),
                                exit.failure.first_failed_rank()) != member.ranks.end();
    return here ? 0 : 1;
  };
  // Bad data, NaN and the like explain the others' lost connections, never the reverse.
  const auto rank = [&kind](const MemberRow& member) {
    return std::make_tuple(kind(member), member.exit->retry, member.exit->time_us);
  };
  const MemberRow* cause = nullptr;
  for (const MemberRow& member : members) {
    if (!member.exit.has_value() || member.exit->outcome == AttemptState::kSucceeded ||
        member.exit->outcome == AttemptState::kPaused || (own && kind(member) != 0)) {
      continue;
    }
    if (cause == nullptr || rank(member) < rank(*cause)) cause = &member;
  }
  return cause == nullptr ? nullptr : &*cause->exit;
}

AttemptEnd EndOf(const MemberExit& exit, const std::vector<MemberRow>& members,
                 int32_t max_restarts) {
  AttemptEnd end{.state = exit.outcome,
                 .retry = exit.retry,
                 .free = exit.free,
                 .failure = exit.failure,
                 .max_restarts = max_restarts};
  if (end.state != AttemptState::kCancelled) {
    NameRank(members, &end.failure);
    return end;
  }
  // Stopped by its worker, not by the user.
  end.retry = true;
  end.failure.set_class_(liger::v1::FAILURE_CLASS_INFRA);
  if (end.failure.message().empty()) end.failure.set_message("its worker stopped it");
  return end;
}

absl::Status LoseAttempt(Transaction& txn, JobRow* job, AttemptRow* attempt,
                         const std::string& detail, int32_t max_restarts) {
  const std::vector<MemberRow> members = txn.tables().Members(job->uid, attempt->epoch);
  if (const MemberExit* before = CauseOf(members, /*own=*/true)) {
    return EndAttempt(txn, job, attempt, EndOf(*before, members, max_restarts));
  }
  AttemptEnd end{.state = AttemptState::kLost, .retry = true, .max_restarts = max_restarts};
  end.failure.set_class_(liger::v1::FAILURE_CLASS_INFRA);
  end.failure.set_message(detail);
  end.failure.set_action("look at the workers (liger-cli workers) and submit the job again");
  // Whose rank was missed first, where another member has told.
  const MemberExit* told = CauseOf(members);
  if (told != nullptr && told->failure.has_first_failed_rank()) {
    end.failure.set_first_failed_rank(told->failure.first_failed_rank());
    NameRank(members, &end.failure);
  }
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
  if (job->state == liger::v1::JobStatus::PAUSING) {
    const std::string message =
        absl::StrCat("paused before it began; ", GoesOnFrom(txn.tables(), *job));
    return txn.SetJobState(job, liger::v1::JobStatus::PAUSED,
                           {"Paused", message, absl::StrCat("liger-cli resume ", job->name)});
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
