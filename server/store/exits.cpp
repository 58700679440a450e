#include "server/store/exits.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/store/apply.h"
#include "server/store/attempts.h"
#include "server/store/publications.h"

namespace liger::server {
namespace {

bool AnyOut(const std::vector<MemberRow>& members) {
  return std::any_of(members.begin(), members.end(),
                     [](const MemberRow& member) { return !member.exit.has_value(); });
}

// Nobody failed.
AttemptEnd GoodEnd(const ReadView& view, const JobRow& job, const AttemptRow& attempt,
                   const std::vector<MemberRow>& members, int32_t max_restarts) {
  AttemptEnd end{.state = AttemptState::kSucceeded, .max_restarts = max_restarts};
  if (HasVisibleModel(view, job, attempt.epoch)) return end;
  end.retry = true;
  end.failure.set_class_(liger::v1::FAILURE_CLASS_INFRA);
  const bool paused = std::all_of(members.begin(), members.end(), [](const MemberRow& member) {
    return member.exit->outcome == AttemptState::kPaused;
  });
  if (!paused) {
    end.state = AttemptState::kFailed;
    end.failure.set_message("the trainer ended without publishing a model");
    end.failure.set_action("see the job's log (liger-cli logs)");
  } else if (job.state == liger::v1::JobStatus::PAUSING) {
    end.state = AttemptState::kPaused;
    end.retry = false;
    end.failure.Clear();
  } else {
    end.state = AttemptState::kPaused;
    end.free = true;
    end.failure.set_message("its trainer was asked to end, and saved a checkpoint first");
  }
  return end;
}

}  // namespace

bool IsBroken(const std::vector<MemberRow>& members) {
  return CauseOf(members) != nullptr && AnyOut(members);
}

absl::Status ApplyExit(const ReportTask& report, JobRow* job, AttemptRow* attempt,
                       ReportTask::Result* result, Transaction& txn) {
  SettlePublications(report, /*current=*/true, job, txn, &result->reclaims);
  const std::vector<MemberRow> members = txn.tables().Members(job->uid, attempt->epoch);
  const MemberExit* cause = CauseOf(members);
  if (cause == nullptr) {
    if (AnyOut(members)) return absl::OkStatus();
    return EndAttempt(txn, job, attempt,
                      GoodEnd(txn.tables(), *job, *attempt, members, report.max_restarts));
  }
  if (AwaitsModel(txn.tables(), *job, attempt->epoch)) return absl::OkStatus();
  if (AnyOut(members)) {
    result->stops = StopsFor(txn.tables(), job->uid, job->epoch);
    // A cancel does not ask for the cause.
    if (job->state != liger::v1::JobStatus::CANCELLING) {
      result->gang_broken = true;
      return absl::OkStatus();
    }
  }
  return EndAttempt(txn, job, attempt, EndOf(*cause, members, report.max_restarts));
}

absl::StatusOr<SettleGang::Result> Run(const SettleGang& command, Transaction& txn) {
  std::optional<JobRow> job = txn.tables().Job(command.job_uid);
  std::optional<AttemptRow> attempt = txn.tables().Attempt(command.job_uid, command.epoch);
  if (!job.has_value() || !attempt.has_value() || !IsCurrent(*job, *attempt)) {
    return SettleGang::Result{};
  }
  const std::vector<MemberRow> members = txn.tables().Members(job->uid, attempt->epoch);
  const MemberExit* cause = CauseOf(members);
  if (cause == nullptr || AwaitsModel(txn.tables(), *job, attempt->epoch)) {
    return SettleGang::Result{};
  }
  AttemptEnd end = EndOf(*cause, members, command.max_restarts);
  if (CauseOf(members, /*own=*/true) == nullptr) {
    std::vector<std::string> silent;
    for (const MemberRow& member : members) {
      if (!member.exit.has_value()) silent.push_back(absl::StrCat("worker ", member.worker_id));
    }
    end.failure.set_message(absl::StrCat(end.failure.message(), " (", absl::StrJoin(silent, ", "),
                                         " has not told its end)"));
  }
  const absl::Status ended = EndAttempt(txn, &*job, &*attempt, end);
  if (!ended.ok()) return ended;
  return SettleGang::Result{};
}

}  // namespace liger::server
