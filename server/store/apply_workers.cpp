#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors/errors.h"
#include "server/store/apply.h"
#include "server/store/attempts.h"
#include "server/store/exits.h"
#include "server/store/outputs.h"
#include "server/store/publications.h"

namespace liger::server {
namespace {

using liger::worker::v1::OwnedTask;
using liger::worker::v1::Verdict;

// Compares a Hello with the rows, task by task.
class Reconciliation {
 public:
  Reconciliation(const ReconcileWorker& command, Transaction& txn)
      : command_(command), hello_(command.hello), txn_(txn) {
    for (const OwnedTask& owned : hello_.owned()) owned_[Key(owned.ref())] = &owned;
  }

  absl::StatusOr<ReconcileWorker::Result> Run() {
    for (MemberRow& member : txn_.tables().UnreleasedMembers(hello_.worker_id())) {
      const absl::Status settled = SettleMember(&member);
      if (!settled.ok()) return settled;
    }
    for (TaskRow& task : txn_.tables().RunningTasks()) {
      if (task.worker_id == hello_.worker_id()) SettleCheck(&task);
    }
    // What is left is not ours, or was settled before the worker heard of it.
    for (const auto& [key, owned] : owned_) {
      RepeatGrants(owned->ref(), /*current=*/false);
      Answer(owned->ref(), Verdict::STOP, owned->last_event_seq());
    }
    result_.reclaims = ReclaimsOf(txn_.tables(), *txn_.tables().Worker(hello_.worker_id()));
    return std::move(result_);
  }

 private:
  using TaskKey = std::tuple<std::string, int64_t, std::string>;
  static TaskKey Key(const liger::trainer::v1::Ref& ref) {
    return {ref.job_uid(), ref.epoch(), ref.task_id()};
  }

  const OwnedTask* TakeOwned(const liger::trainer::v1::Ref& ref) {
    const auto found = owned_.find(Key(ref));
    if (found == owned_.end()) return nullptr;
    const OwnedTask* owned = found->second;
    owned_.erase(found);
    return owned;
  }

  void Answer(const liger::trainer::v1::Ref& ref, Verdict::Action action, int64_t ack_seq) {
    Verdict& verdict = result_.verdicts.emplace_back();
    *verdict.mutable_ref() = ref;
    verdict.set_action(action);
    verdict.set_ack_seq(ack_seq);
  }

  // A grant is acknowledged with its event, so one that was lost on the way
  // would never be asked for again.
  void RepeatGrants(const liger::trainer::v1::Ref& ref, bool current) {
    const std::optional<JobRow> job = txn_.tables().Job(ref.job_uid());
    if (!job.has_value()) return;
    for (PublishAnswer& answer :
         GrantsToRepeat(txn_.tables(), *job, ref.epoch(), hello_.worker_id(), current)) {
      result_.grants.push_back(std::move(answer));
    }
  }

  absl::Status SettleMember(MemberRow* member) {
    const liger::trainer::v1::Ref ref = TrainRef(member->job_uid, member->epoch);
    const OwnedTask* owned = TakeOwned(ref);
    std::optional<JobRow> job = txn_.tables().Job(member->job_uid);
    std::optional<AttemptRow> attempt = txn_.tables().Attempt(member->job_uid, member->epoch);
    if (!job.has_value() || !attempt.has_value()) {
      return absl::InternalError("a member without its job or attempt");
    }
    if (owned == nullptr) return SettleMissing(member, &*job, &*attempt);
    const absl::Status outdated = LoseIfOlderThanBackup(&*job, &*attempt);
    if (!outdated.ok()) return outdated;
    const absl::Status resumed = ResumeIfLost(&*job, &*attempt);
    if (!resumed.ok()) return resumed;
    RepeatGrants(ref, IsCurrent(*job, *attempt));
    if (!IsCurrent(*job, *attempt)) {
      // Its devices are free when its exit arrives, or now if nothing runs.
      if (!owned->running()) ReleaseMember(txn_, member);
      Answer(ref, Verdict::STOP,
             owned->running() ? member->acked_event_seq : owned->last_event_seq());
      return absl::OkStatus();
    }
    member->incarnation = hello_.incarnation();
    txn_.tables().PutMember(*member);
    const bool stop = job->state == liger::v1::JobStatus::CANCELLING;
    Answer(ref, stop ? Verdict::STOP : Verdict::ADOPT, member->acked_event_seq);
    if (stop) return absl::OkStatus();
    const bool waits = AwaitsModel(txn_.tables(), *job, attempt->epoch);
    if (!waits && IsBroken(txn_.tables().Members(job->uid, attempt->epoch))) {
      result_.stops.push_back({hello_.worker_id(), ref});
      return absl::OkStatus();
    }
    // These may have been lost on the way; both are idempotent.
    if (job->state == liger::v1::JobStatus::PAUSING) {
      result_.pauses.push_back({hello_.worker_id(), ref});
    }
    const bool silent = member->acked_event_seq == 0;
    if (silent && owned->running()) result_.restarts.push_back(ref);
    return absl::OkStatus();
  }

  // What such an attempt reported after the backup is acknowledged and gone, so
  // it cannot be followed any more.
  absl::Status LoseIfOlderThanBackup(JobRow* job, AttemptRow* attempt) {
    if ((attempt->epoch >> 32) == txn_.generation() || !IsCurrent(*job, *attempt)) {
      return absl::OkStatus();
    }
    return LoseAttempt(txn_, job, attempt, "the coordinator's store was restored from a backup",
                       command_.max_restarts);
  }

  // The lease ran out, but no other attempt has begun: training went on, so
  // the attempt goes on. Its epoch was never given to anyone else.
  absl::Status ResumeIfLost(JobRow* job, AttemptRow* attempt) {
    if (job->state != liger::v1::JobStatus::RECOVERING || job->epoch != attempt->epoch ||
        attempt->state != AttemptState::kLost || (attempt->epoch >> 32) != txn_.generation() ||
        txn_.tables().Members(job->uid, job->epoch).size() != 1) {
      return absl::OkStatus();
    }
    attempt->state = AttemptState::kRunning;
    attempt->ended_us = 0;
    attempt->failure_class = liger::v1::FAILURE_CLASS_UNSPECIFIED;
    attempt->detail.clear();
    txn_.tables().PutAttempt(*attempt);
    --job->restarts;
    return txn_.SetJobState(
        job, liger::v1::JobStatus::RUNNING,
        {"Adopted", absl::StrCat("worker ", hello_.worker_id(), " came back with it"), ""});
  }

  absl::Status SettleMissing(MemberRow* member, JobRow* job, AttemptRow* attempt) {
    ReleaseMember(txn_, member);
    if (!IsCurrent(*job, *attempt)) return absl::OkStatus();
    if (AwaitsModel(txn_.tables(), *job, attempt->epoch)) return absl::OkStatus();
    AddStops(job->uid, job->epoch);
    const bool same_agent = member->incarnation == hello_.incarnation();
    if (attempt->state == AttemptState::kStarting && same_agent) {
      return Abandon(txn_, job, attempt,
                     absl::StrCat("Prepare did not reach worker ", hello_.worker_id()));
    }
    return LoseAttempt(txn_, job, attempt,
                       absl::StrCat("worker ", hello_.worker_id(),
                                    same_agent ? " came back without it" : " was restarted"),
                       command_.max_restarts);
  }

  void AddStops(const std::string& job_uid, int64_t epoch) {
    for (TaskStop& stop : StopsFor(txn_.tables(), job_uid, epoch, hello_.worker_id())) {
      result_.stops.push_back(std::move(stop));
    }
  }

  void SettleCheck(TaskRow* task) {
    const liger::trainer::v1::Ref ref = CheckRef(*task);
    if (const OwnedTask* owned = TakeOwned(ref)) {
      task->incarnation = hello_.incarnation();
      if (task->acked_event_seq == 0 && owned->running()) result_.restarts.push_back(ref);
      Answer(ref, Verdict::ADOPT, task->acked_event_seq);
    } else {
      // Lost with its agent, or never delivered: another one will be made.
      const bool same_agent = task->incarnation == hello_.incarnation();
      task->state = same_agent ? TaskState::kCancelled : TaskState::kLost;
    }
    txn_.tables().PutTask(*task);
  }

  const ReconcileWorker& command_;
  const liger::worker::v1::Hello& hello_;
  Transaction& txn_;
  std::map<TaskKey, const OwnedTask*> owned_;
  ReconcileWorker::Result result_;
};

}  // namespace

namespace {

// A device that failed stays so until its host is booted again.
void KeepFaults(const WorkerRow& known, liger::worker::v1::Hello* hello) {
  if (known.boot_id != hello->boot_id()) return;
  for (auto& device : *hello->mutable_devices()) {
    if (!device.fault().empty()) continue;
    for (const auto& before : known.hello.devices()) {
      if (before.uuid() == device.uuid()) device.set_fault(before.fault());
    }
  }
}

}  // namespace

absl::StatusOr<ReconcileWorker::Result> Run(const ReconcileWorker& command, Transaction& txn) {
  const liger::worker::v1::Hello& hello = command.hello;
  WorkerRow worker;
  if (std::optional<WorkerRow> known = txn.tables().Worker(hello.worker_id())) {
    if (known->incarnation > hello.incarnation()) {
      return ErrorWithReason(absl::StatusCode::kFailedPrecondition, "STALE_INCARNATION",
                             absl::StrCat("a newer worker ", hello.worker_id(), " is registered"));
    }
    worker = *std::move(known);
  }
  const WorkerRow before = worker;
  worker.worker_id = hello.worker_id();
  worker.incarnation = hello.incarnation();
  worker.boot_id = hello.boot_id();
  worker.hello = hello;
  worker.hello.clear_owned();
  KeepFaults(before, &worker.hello);
  worker.state = WorkerState::kReady;
  worker.updated_us = txn.now_us();
  txn.tables().PutWorker(worker);
  return Reconciliation(command, txn).Run();
}

absl::StatusOr<LoseWorker::Result> Run(const LoseWorker& command, Transaction& txn) {
  LoseWorker::Result result;
  std::optional<WorkerRow> worker = txn.tables().Worker(command.worker_id);
  if (!worker.has_value() || worker->incarnation != command.incarnation ||
      worker->state == WorkerState::kLost) {
    return result;
  }
  worker->state = WorkerState::kLost;
  worker->updated_us = txn.now_us();
  txn.tables().PutWorker(*worker);
  const std::string detail = absl::StrCat("worker ", command.worker_id, " stopped answering");
  for (const MemberRow& member : txn.tables().UnreleasedMembers(command.worker_id)) {
    std::optional<JobRow> job = txn.tables().Job(member.job_uid);
    std::optional<AttemptRow> attempt = txn.tables().Attempt(member.job_uid, member.epoch);
    if (!job.has_value() || !attempt.has_value() || !IsCurrent(*job, *attempt)) continue;
    if (AwaitsModel(txn.tables(), *job, attempt->epoch)) continue;
    for (TaskStop& stop : StopsFor(txn.tables(), job->uid, job->epoch, command.worker_id)) {
      result.stops.push_back(std::move(stop));
    }
    const absl::Status lost = LoseAttempt(txn, &*job, &*attempt, detail, command.max_restarts);
    if (!lost.ok()) return lost;
  }
  for (TaskRow& task : txn.tables().RunningTasks()) {
    if (task.worker_id != command.worker_id) continue;
    task.state = TaskState::kCancelled;
    txn.tables().PutTask(task);
  }
  PassOnReclaims(txn.tables(), command.worker_id, &result.reclaims);
  return result;
}

absl::StatusOr<UpdateInventory::Result> Run(const UpdateInventory& command, Transaction& txn) {
  std::optional<WorkerRow> worker = txn.tables().Worker(command.worker_id);
  if (!worker.has_value() || worker->incarnation != command.incarnation) {
    return UpdateInventory::Result{};
  }
  *worker->hello.mutable_inventory() = {command.inventory.begin(), command.inventory.end()};
  worker->updated_us = txn.now_us();
  txn.tables().PutWorker(*worker);
  return UpdateInventory::Result{};
}

absl::StatusOr<CordonDevices::Result> Run(const CordonDevices& command, Transaction& txn) {
  std::optional<WorkerRow> worker = txn.tables().Worker(command.worker_id);
  if (!worker.has_value() || worker->incarnation != command.incarnation) {
    return CordonDevices::Result{};
  }
  std::map<std::string, std::string> cordoned;
  for (auto& device : *worker->hello.mutable_devices()) {
    for (const auto& fault : command.faults) {
      if (fault.device_uuid() != device.uuid() || !device.fault().empty()) continue;
      device.set_fault(fault.fault());
      cordoned[device.uuid()] = fault.fault();
    }
  }
  if (cordoned.empty()) return CordonDevices::Result{};
  worker->updated_us = txn.now_us();
  txn.tables().PutWorker(*worker);
  for (const MemberRow& member : txn.tables().UnreleasedMembers(command.worker_id)) {
    std::optional<JobRow> job = txn.tables().Job(member.job_uid);
    if (!job.has_value()) continue;
    for (size_t i = 0; i < member.device_uuids.size(); ++i) {
      const auto fault = cordoned.find(member.device_uuids[i]);
      if (fault == cordoned.end()) continue;
      txn.AddEvent(&*job, "DeviceCordoned",
                   {"DeviceFailed",
                    absl::StrCat("device ", fault->first, " of worker ", command.worker_id,
                                 " (rank ", member.ranks[i], ") failed: ", fault->second),
                    ""});
    }
  }
  return CordonDevices::Result{};
}

}  // namespace liger::server
