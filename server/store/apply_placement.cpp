#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/spec/elastic.h"
#include "server/store/apply.h"
#include "server/store/attempts.h"
#include "server/store/job_history.h"

namespace liger::server {
namespace {

absl::StatusOr<WorkerRow> ReadyWorker(const ReadView& view, const std::string& worker_id) {
  std::optional<WorkerRow> worker = view.Worker(worker_id);
  if (!worker.has_value() || worker->state != WorkerState::kReady || worker->cordoned) {
    return absl::FailedPreconditionError(absl::StrCat("worker ", worker_id, " is not ready"));
  }
  return *std::move(worker);
}

std::set<std::string> OccupiedDevices(const ReadView& view, const std::string& worker_id) {
  std::set<std::string> occupied;
  for (const MemberRow& member : view.UnreleasedMembers(worker_id)) {
    occupied.insert(member.device_uuids.begin(), member.device_uuids.end());
  }
  return occupied;
}

// Every device is the worker's, of the job's kind, free, and named once.
absl::Status CheckDevices(const ReadView& view, const JobRow& job, const WorkerRow& worker,
                          const MemberPlan& plan) {
  if (plan.ranks.size() != plan.device_uuids.size()) {
    return absl::InvalidArgumentError("a rank needs exactly one device");
  }
  std::set<std::string> taken = OccupiedDevices(view, worker.worker_id);
  for (const std::string& uuid : plan.device_uuids) {
    const auto& devices = worker.hello.devices();
    const auto device = std::find_if(devices.begin(), devices.end(),
                                     [&uuid](const auto& info) { return info.uuid() == uuid; });
    if (device == devices.end() || device->kind() != job.resolved_spec.resources().device_kind()) {
      return absl::FailedPreconditionError(
          absl::StrCat("worker ", worker.worker_id, " has no such device ", uuid));
    }
    if (!device->fault().empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "device ", uuid, " of worker ", worker.worker_id, " is cordoned: ", device->fault()));
    }
    if (!taken.insert(uuid).second) {
      return absl::FailedPreconditionError(
          absl::StrCat("device ", uuid, " of worker ", worker.worker_id, " is occupied"));
    }
  }
  return absl::OkStatus();
}

// One gang runs one build.
absl::Status CheckBuild(const WorkerRow& worker, std::optional<std::string>* build) {
  if (!build->has_value()) *build = worker.hello.build();
  if (**build == worker.hello.build()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("worker ", worker.worker_id, " runs build ",
                                                    worker.hello.build(), ", another one ",
                                                    **build));
}

// "placed on worker w1", "4 ranks placed on worker w1, worker w2".
std::string Where(const std::vector<MemberRow>& members, size_t ranks) {
  if (members.size() == 1 && ranks == 1) {
    return absl::StrCat("placed on worker ", members[0].worker_id);
  }
  std::vector<std::string> workers;
  for (const MemberRow& member : members) {
    workers.push_back(absl::StrCat("worker ", member.worker_id));
  }
  return absl::StrCat(ranks, " ranks placed on ", absl::StrJoin(workers, ", "));
}

int64_t NextEpoch(const JobRow& job, int64_t generation) {
  return (generation << 32) | ((job.epoch & 0xffffffff) + 1);
}

// A new attempt starts from the beginning: what the last one reported is not
// about it. What the check found is.
void ClearReports(const std::vector<TaskRow>& checks, liger::v1::JobStatus* status) {
  status->clear_progress();
  status->clear_evaluations();
  status->clear_samples();
  status->clear_warnings();
  for (const TaskRow& check : checks) {
    if (check.state == TaskState::kDone) *status->mutable_warnings() = check.result.warnings();
  }
  status->clear_kernels_ran();
}

AbandonAttempt::Result AbandonCheck(const AbandonAttempt& command, Transaction& txn) {
  std::optional<TaskRow> task = txn.tables().Task(command.task_id);
  if (!task.has_value() || task->worker_id != command.worker_id ||
      task->state != TaskState::kRunning) {
    return {false};
  }
  task->state = TaskState::kCancelled;
  txn.tables().PutTask(*task);
  return {true};
}

}  // namespace

absl::StatusOr<AssignCheck::Result> Run(const AssignCheck& command, Transaction& txn) {
  std::optional<JobRow> job = txn.tables().Job(command.job_uid);
  if (!job.has_value() || job->state != liger::v1::JobStatus::VALIDATING) {
    return absl::FailedPreconditionError("the job has left VALIDATING");
  }
  absl::StatusOr<WorkerRow> worker = ReadyWorker(txn.tables(), command.worker_id);
  if (!worker.ok()) return worker.status();
  for (const TaskRow& task : txn.tables().Tasks(job->uid)) {
    if (task.state == TaskState::kRunning) {
      return absl::FailedPreconditionError("the job has a check running");
    }
  }
  TaskRow task;
  task.task_id = command.task_id;
  task.job_uid = job->uid;
  task.worker_id = worker->worker_id;
  task.incarnation = worker->incarnation;
  task.created_us = txn.now_us();
  txn.tables().PutTask(task);
  job->reason = "Checking";
  job->status.set_message(absl::StrCat("worker ", worker->worker_id, " checks model and data"));
  job->status.clear_action();
  txn.SaveJob(&*job);
  return AssignCheck::Result{std::move(task), *std::move(job)};
}

absl::StatusOr<StartAttempt::Result> Run(const StartAttempt& command, Transaction& txn) {
  Tables& tables = txn.tables();
  std::optional<JobRow> job = tables.Job(command.job_uid);
  if (!job.has_value() || !AwaitsPlacement(job->state)) {
    return absl::FailedPreconditionError("the job does not wait for a placement");
  }
  StartAttempt::Result result;
  result.epoch = NextEpoch(*job, txn.generation());
  size_t ranks = 0;
  std::set<std::string> workers;
  std::optional<std::string> build;
  for (const MemberPlan& plan : command.members) {
    absl::StatusOr<WorkerRow> worker = ReadyWorker(tables, plan.worker_id);
    if (!worker.ok()) return worker.status();
    const absl::Status devices = CheckDevices(tables, *job, *worker, plan);
    if (!devices.ok()) return devices;
    if (absl::Status one = CheckBuild(*worker, &build); !one.ok()) return one;
    if (!workers.insert(plan.worker_id).second) {
      return absl::InvalidArgumentError("a worker is one member of a gang at most");
    }
    result.members.push_back({.job_uid = job->uid,
                              .epoch = result.epoch,
                              .node_rank = static_cast<int32_t>(result.members.size()),
                              .worker_id = plan.worker_id,
                              .incarnation = worker->incarnation,
                              .ranks = plan.ranks,
                              .device_uuids = plan.device_uuids});
    ranks += plan.ranks.size();
  }
  const std::vector<int> sizes = WorldSizes(job->resolved_spec, HasRun(*job));
  if (std::find(sizes.begin(), sizes.end(), static_cast<int>(ranks)) == sizes.end()) {
    return absl::InvalidArgumentError("a gang starts whole or not at all");
  }
  tables.PutAttempt({.job_uid = job->uid,
                     .epoch = result.epoch,
                     .resume_from = command.resume_from,
                     .started_us = txn.now_us()});
  for (const MemberRow& member : result.members) tables.PutMember(member);

  job->epoch = result.epoch;
  job->status.clear_resumed();  // the attempt tells its own
  if (command.resume_from.empty()) ClearReports(tables.Tasks(job->uid), &job->status);
  std::string where = Where(result.members, ranks);
  if (static_cast<int>(ranks) < sizes.front()) {
    absl::StrAppend(&where, ", fewer than the ", sizes.front(),
                    " that it asks for (parallel.elastic)");
  }
  const absl::Status moved =
      txn.SetJobState(&*job, liger::v1::JobStatus::STARTING, {"Placed", where, ""});
  if (!moved.ok()) return moved;
  txn.AddEvent(&*job, "AttemptStarted", {"Placed", where, ""});
  result.job = *std::move(job);
  return result;
}

absl::StatusOr<AbandonAttempt::Result> Run(const AbandonAttempt& command, Transaction& txn) {
  if (command.epoch == 0) return AbandonCheck(command, txn);
  std::optional<JobRow> job = txn.tables().Job(command.job_uid);
  std::optional<AttemptRow> attempt = txn.tables().Attempt(command.job_uid, command.epoch);
  if (!job.has_value() || !attempt.has_value()) return AbandonAttempt::Result{false};
  std::vector<MemberRow> members = txn.tables().Members(job->uid, command.epoch);
  const auto here = std::find_if(members.begin(), members.end(), [&](const MemberRow& member) {
    return member.worker_id == command.worker_id;
  });
  // It runs, or has run, whatever its worker says of a repeated Start.
  const bool begun = here != members.end() && here->acked_event_seq > 0;
  if (here == members.end() || begun) return AbandonAttempt::Result{false};
  const bool current = IsCurrent(*job, *attempt);
  for (MemberRow& member : members) {
    const bool idle = current && !command.others_run;
    if (idle || member.worker_id == command.worker_id) ReleaseMember(txn, &member);
  }
  if (!current) return AbandonAttempt::Result{false};
  AbandonAttempt::Result result{true, StopsFor(txn.tables(), job->uid, command.epoch)};
  absl::Status ended;
  if (attempt->state == AttemptState::kRunning) {
    // Other members of the gang have begun.
    AttemptEnd end{.state = AttemptState::kLost, .retry = true, .free = true};
    end.failure.set_class_(liger::v1::FAILURE_CLASS_INFRA);
    end.failure.set_message(command.detail);
    ended = EndAttempt(txn, &*job, &*attempt, end);
  } else {
    ended = Abandon(txn, &*job, &*attempt, command.detail);
  }
  if (!ended.ok()) return ended;
  return result;
}

}  // namespace liger::server
