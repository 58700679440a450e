#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/checkpoints.h"
#include "common/spec/less_memory.h"
#include "common/spec/saved_model.h"
#include "google/protobuf/util/message_differencer.h"
#include "server/store/apply.h"
#include "server/store/attempts.h"
#include "server/store/exits.h"
#include "server/store/outputs.h"
#include "server/store/publications.h"
#include "server/store/worker_files.h"

namespace liger::server {
namespace {

// A job's status is shown whole; a run that floods it loses the oldest.
constexpr int kMaxEvaluations = 1000;
constexpr int kMaxSamples = 64;
constexpr int kMaxWarnings = 100;

template <typename Field>
void TrimFront(Field* field, int most) {
  if (field->size() > most) field->DeleteSubrange(0, field->size() - most);
}

// Each worker tells of its own ranks. The job's peaks are those of its largest rank.
void MergeRanks(const liger::v1::Progress& report, liger::v1::Progress* known) {
  std::map<int32_t, liger::v1::RankProgress> ranks;
  for (const auto& rank : known->ranks()) ranks[rank.rank()] = rank;
  for (const auto& rank : report.ranks()) ranks[rank.rank()] = rank;
  known->clear_ranks();
  for (const auto& [number, rank] : ranks) {
    *known->add_ranks() = rank;
    for (const auto& [kind, bytes] : rank.peak_memory_bytes()) {
      int64_t& peak = (*known->mutable_peak_memory_bytes())[kind];
      peak = std::max(peak, bytes);
    }
  }
}

// After a reconnect the first report lacks what was said before it: all but the
// phase until the next step, and what only changes now and then.
void MergeProgress(const liger::v1::Progress& report, liger::v1::Progress* known) {
  const liger::v1::Progress before = *known;
  liger::v1::Progress said = report;
  said.clear_ranks();
  if (said.step() == 0) {
    known->MergeFrom(said);
  } else {
    *known = std::move(said);
    if (known->phase().empty()) known->set_phase(before.phase());
    if (known->peak_memory_bytes().empty()) {
      *known->mutable_peak_memory_bytes() = before.peak_memory_bytes();
    }
    if (known->predicted_memory_bytes().empty()) {
      *known->mutable_predicted_memory_bytes() = before.predicted_memory_bytes();
    }
    *known->mutable_ranks() = before.ranks();
  }
  MergeRanks(report, known);
}

// Replays overlap what is known, so each of these is recorded once.
void MergeStatus(const ReportTask& report, liger::v1::JobStatus* status) {
  if (report.progress.has_value()) MergeProgress(*report.progress, status->mutable_progress());
  if (!report.kernels_ran.empty()) {
    *status->mutable_kernels_ran() = {report.kernels_ran.begin(), report.kernels_ran.end()};
  }
  for (const auto& evaluation : report.evaluations) {
    auto* known = status->mutable_evaluations();
    if (!known->empty() && known->rbegin()->step() >= evaluation.step()) continue;
    *known->Add() = evaluation;
  }
  for (const auto& sample : report.samples) {
    auto* known = status->mutable_samples();
    const bool seen = std::any_of(known->begin(), known->end(), [&](const auto& other) {
      return other.step() == sample.step() && other.prompt() == sample.prompt();
    });
    if (!seen) *known->Add() = sample;
  }
  TrimFront(status->mutable_evaluations(), kMaxEvaluations);
  TrimFront(status->mutable_samples(), kMaxSamples);
}

// Those that the job does not have yet, each with its event. Of those that it has, that an attempt
// does not go on from a checkpoint is told of each attempt; `replays`: the report overlaps what is
// known.
void AddWarnings(const auto& warnings, bool replays, JobRow* job, Transaction& txn) {
  auto* known = job->status.mutable_warnings();
  for (const liger::v1::Warning& warning : warnings) {
    const auto older = std::find_if(known->begin(), known->end(), [&](const auto& other) {
      return warning.code() == kNotSavedCode && other.code() == kNotSavedCode;
    });
    if (older != known->end()) {  // of a full disk there is one with each save
      *older = warning;
      continue;
    }
    const bool seen = std::any_of(known->begin(), known->end(), [&](const auto& other) {
      return google::protobuf::util::MessageDifferencer::Equals(other, warning);
    });
    if (!seen) *known->Add() = warning;
    if (!seen || (warning.code() == kNotResumedCode && !replays)) {
      txn.AddEvent(job, "Warning", {warning.code(), warning.message(), ""});
    }
  }
  TrimFront(known, kMaxWarnings);
}

// What the attempt's first rank and its worker say of where it runs.
void PutEnvironment(const ReportTask& report, const MemberRow& member, Transaction& txn) {
  liger::v1::RunEnvironment environment;
  environment.set_device(report.ready->device());
  environment.set_worker_id(report.worker_id);
  for (const auto& [name, value] : report.ready->versions()) {
    // The agent puts what the driver tells of the device among the versions.
    constexpr absl::string_view kState = "device/";
    auto* values = absl::StartsWith(name, kState) ? environment.mutable_device_state()
                                                  : environment.mutable_versions();
    (*values)[std::string(absl::StripPrefix(name, kState))] = value;
  }
  for (const MemberRow& other : txn.tables().Members(member.job_uid, member.epoch)) {
    for (const std::string& uuid : other.device_uuids) environment.add_device_uuids(uuid);
  }
  environment.mutable_communication()->insert(report.communication.begin(),
                                              report.communication.end());
  if (const std::optional<WorkerRow> worker = txn.tables().Worker(report.worker_id)) {
    environment.set_host_name(worker->hello.host_name());
    environment.set_build(worker->hello.build());
    for (const auto& device : worker->hello.devices()) {
      if (!member.device_uuids.empty() && device.uuid() == member.device_uuids.front()) {
        environment.set_device_model(device.model());
      }
    }
  }
  txn.tables().PutEnvironment(report.ref.job_uid(), report.ref.epoch(), environment);
}

// What it ran on and read, as it said at its end.
void PutInputs(const ReportTask& report, Transaction& txn) {
  const std::string& uid = report.ref.job_uid();
  liger::v1::RunEnvironment environment =
      txn.tables().Environment(uid, report.ref.epoch()).value_or(liger::v1::RunEnvironment());
  for (const auto& [name, digest] : report.inputs->digests()) {
    (*environment.mutable_versions())[name] = digest;
  }
  txn.tables().PutEnvironment(uid, report.ref.epoch(), environment);
}

// Of a gang's workers the one of its first rank alone knows what the attempt goes on from.
bool LeadsAttempt(const ReadView& view, const AttemptRow& attempt, const std::string& worker_id) {
  const std::vector<MemberRow> members = view.Members(attempt.job_uid, attempt.epoch);
  return std::any_of(members.begin(), members.end(), [&](const MemberRow& member) {
    return member.worker_id == worker_id && member.node_rank == 0;
  });
}

// Once for an attempt, which tells it each time that it says what it runs on.
void NoteResumed(const ReportTask& report, const AttemptRow& attempt, JobRow* job,
                 Transaction& txn) {
  if (!report.ready.has_value()) return;
  if (!LeadsAttempt(txn.tables(), attempt, report.worker_id)) return;
  if (!report.ready->has_resumed()) return WarnOfBeginning(attempt, job, txn);
  if (job->status.has_resumed()) return;
  *job->status.mutable_resumed() = report.ready->resumed();
  txn.AddEvent(job, "Resumed", {"Checkpoint", ResumedText(report.ready->resumed()), ""});
}

// What a current attempt reported, in the order in which it can happen. `replays`: as in
// AddWarnings.
absl::Status ApplyCurrent(const ReportTask& report, bool replays, JobRow* job, AttemptRow* attempt,
                          ReportTask::Result* result, Transaction& txn) {
  const bool lives = report.started || report.progress.has_value() || report.publish.has_value() ||
                     report.publication.has_value() ||
                     (report.exit.has_value() && report.exit->outcome == AttemptState::kSucceeded);
  if (lives) {
    const absl::Status running = MarkRunning(txn, job, attempt);
    if (!running.ok()) return running;
  }
  MergeStatus(report, &job->status);
  NoteResumed(report, *attempt, job, txn);
  AddWarnings(report.warnings, replays, job, txn);
  for (const auto& warning : report.warnings) {
    if (warning.code() != kNotResumedCode || warning.file().empty()) continue;
    QuarantineCheckpoint(txn.tables(), *job, attempt->epoch, warning);
  }
  if (report.publish.has_value()) {
    result->publish =
        AnswerRequest(report, /*current=*/true, /*answered=*/false, job, txn, &result->reclaims);
  }
  if (report.publication.has_value()) {
    ApplyOutcome(report, /*current=*/true, job, txn, &result->reclaims);
  }
  txn.SaveJob(job);
  if (report.exit.has_value()) return ApplyExit(report, job, attempt, result, txn);
  if (job->state != liger::v1::JobStatus::PAUSING) return absl::OkStatus();
  // What was sent before it ran did not reach it.
  result->pause = report.started;
  for (const auto& warning : report.warnings) {
    if (warning.code() != kNotPausedCode) continue;
    return txn.SetJobState(job, liger::v1::JobStatus::RUNNING,
                           {"NotPaused", warning.message(), ""});
  }
  return absl::OkStatus();
}

// The failure that the exit tells. Who saw the kernel end a trainer does not know the job; a CHECK
// does nothing but read. REQUIRES: the report has an exit.
liger::v1::Failure AdvisedFailure(const ReportTask& report, const JobRow& job, bool checking) {
  liger::v1::Failure failure = report.exit->failure;
  if (!failure.action().empty()) return failure;
  const auto& progress = report.progress.has_value() ? *report.progress : job.status.progress();
  const MemoryUser user = {&job.resolved_spec, progress.phase() == "EVALUATING",
                           checking || progress.phase() == "TOKENIZING"};
  if (failure.class_() == liger::v1::FAILURE_CLASS_OOM_HOST) {
    failure.set_action(LessHostMemory(user));
  } else if (failure.class_() == liger::v1::FAILURE_CLASS_OOM_DEVICE) {
    failure.set_action(LessDeviceMemory(user));
  }
  return failure;
}

// Of an attempt that is over: what was granted to a worker that was lost before it could tell what
// became of it.
void ApplyStale(const ReportTask& report, JobRow* job, ReportTask::Result* result,
                Transaction& txn) {
  if (report.publish.has_value()) {
    result->publish =
        AnswerRequest(report, /*current=*/false, /*answered=*/false, job, txn, &result->reclaims);
  }
  if (report.publication.has_value()) {
    ApplyOutcome(report, /*current=*/false, job, txn, &result->reclaims);
  }
  if (report.exit.has_value()) {
    SettlePublications(report, /*current=*/false, job, txn, &result->reclaims);
  }
  if (report.publication.has_value() || report.exit.has_value()) txn.SaveJob(job);
}

// Members that went while the model was brought to its place were not waited for. Once it is there
// that is no loss; where it cannot be, the exit of its worker, which says why, comes first.
absl::Status EndWithoutGone(const ReportTask& report, JobRow* job, AttemptRow* attempt,
                            Transaction& txn) {
  if (!IsCurrent(*job, *attempt) || AwaitsModel(txn.tables(), *job, attempt->epoch)) {
    return absl::OkStatus();
  }
  for (const MemberRow& member : txn.tables().Members(job->uid, attempt->epoch)) {
    if (!IsGone(txn.tables(), member)) continue;
    return LoseAttempt(txn, job, attempt,
                       absl::StrCat("worker ", member.worker_id, " stopped answering"),
                       report.max_restarts);
  }
  return absl::OkStatus();
}

absl::StatusOr<ReportTask::Result> ReportTrain(const ReportTask& report, Transaction& txn) {
  ReportTask::Result result{.acked_seq = report.through_seq, .stale = true};
  std::optional<JobRow> job = txn.tables().Job(report.ref.job_uid());
  std::optional<AttemptRow> attempt =
      txn.tables().Attempt(report.ref.job_uid(), report.ref.epoch());
  if (!job.has_value() || !attempt.has_value()) return result;
  std::vector<MemberRow> members = txn.tables().Members(job->uid, attempt->epoch);
  const auto member = std::find_if(members.begin(), members.end(), [&](const MemberRow& row) {
    return row.worker_id == report.worker_id;
  });
  if (member == members.end()) return result;

  const bool current = IsCurrent(*job, *attempt);
  result.stale = !current && member->released_us == 0 && !report.exit.has_value();
  result.acked_seq = std::max(member->acked_event_seq, report.through_seq);
  if (report.through_seq <= member->acked_event_seq) {
    if (report.publish.has_value()) {
      result.publish =
          AnswerRequest(report, current, /*answered=*/true, &*job, txn, &result.reclaims);
    }
    return result;
  }
  // A stale task's worker has let go of its events; only the exit matters.
  if (current && report.first_seq > member->acked_event_seq + 1) {
    return absl::OutOfRangeError(absl::StrCat("events ", member->acked_event_seq + 1, " to ",
                                              report.first_seq - 1, " are missing"));
  }
  const bool replays = report.first_seq <= member->acked_event_seq;
  member->acked_event_seq = report.through_seq;
  if (report.exit.has_value()) {
    member->released_us = txn.now_us();
    member->exit = MemberExit{.outcome = report.exit->outcome,
                              .retry = report.exit->retry,
                              .free = report.exit->worker_stopped,
                              .failure = AdvisedFailure(report, *job, /*checking=*/false),
                              .time_us = txn.now_us()};
  }
  txn.tables().PutMember(*member);
  if (!current) {
    ApplyStale(report, &*job, &result, txn);
    return result;
  }
  if (report.ready.has_value() && member->node_rank == 0) {
    PutEnvironment(report, *member, txn);
  }
  if (report.inputs.has_value() && member->node_rank == 0) PutInputs(report, txn);
  absl::Status applied = ApplyCurrent(report, replays, &*job, &*attempt, &result, txn);
  if (applied.ok() && (report.publication.has_value() || report.exit.has_value())) {
    applied = EndWithoutGone(report, &*job, &*attempt, txn);
  }
  if (!applied.ok()) return applied;
  return result;
}

// A CHECK that ended without a result: run again, unless it keeps happening
// for another reason than that its worker was stopped.
absl::Status CheckDied(const ReportTask& report, JobRow* job, TaskRow* task, Transaction& txn) {
  task->state = report.exit->worker_stopped ? TaskState::kCancelled : TaskState::kLost;
  txn.tables().PutTask(*task);
  const std::vector<TaskRow> tasks = txn.tables().Tasks(job->uid);
  const auto died = std::count_if(tasks.begin(), tasks.end(), [](const TaskRow& other) {
    return other.state == TaskState::kLost;
  });
  if (report.exit->retry && died <= report.max_restarts) return absl::OkStatus();
  liger::v1::Failure failure = AdvisedFailure(report, *job, /*checking=*/true);
  if (failure.message().empty()) failure.set_message("the check ended without a result");
  return FailWith(txn, job, FailureReason(failure.class_()), failure);
}

absl::Status CheckEnded(const ReportTask& report, JobRow* job, TaskRow* task, Transaction& txn) {
  task->state = TaskState::kDone;
  task->result = *report.check_result;
  txn.tables().PutTask(*task);
  AddWarnings(task->result.warnings(), /*replays=*/false, job, txn);
  if (report.check_failure.has_value()) {
    return FailWith(txn, job, FailureReason(report.check_failure->class_()), *report.check_failure);
  }
  return txn.SetJobState(job, liger::v1::JobStatus::QUEUED,
                         {"Checked", "waits for a free device", ""});
}

absl::StatusOr<ReportTask::Result> ReportCheck(const ReportTask& report, TaskRow task,
                                               Transaction& txn) {
  ReportTask::Result result{.acked_seq = std::max(task.acked_event_seq, report.through_seq)};
  std::optional<JobRow> job = txn.tables().Job(task.job_uid);
  if (report.through_seq <= task.acked_event_seq || !job.has_value()) return result;
  const bool current =
      task.state == TaskState::kRunning && job->state == liger::v1::JobStatus::VALIDATING;
  if (current && report.first_seq > task.acked_event_seq + 1) {
    return absl::OutOfRangeError("events of a check are missing");
  }
  task.acked_event_seq = report.through_seq;
  txn.tables().PutTask(task);
  result.stale = !current && task.state != TaskState::kDone && !report.exit.has_value();
  if (!current) return result;

  absl::Status applied;
  if (report.check_result.has_value()) {
    applied = CheckEnded(report, &*job, &task, txn);
  } else if (report.exit.has_value()) {
    applied = CheckDied(report, &*job, &task, txn);
  }
  if (!applied.ok()) return applied;
  return result;
}

}  // namespace

absl::StatusOr<ReportTask::Result> Run(const ReportTask& report, Transaction& txn) {
  if (report.ref.epoch() != 0) return ReportTrain(report, txn);
  std::optional<TaskRow> task = txn.tables().Task(report.ref.task_id());
  if (!task.has_value() || task->worker_id != report.worker_id) {
    return ReportTask::Result{.acked_seq = report.through_seq, .stale = true};
  }
  return ReportCheck(report, *std::move(task), txn);
}

}  // namespace liger::server
