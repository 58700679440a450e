// What workers say, and what the coordinator does about it.

#include <utility>

#include "absl/strings/str_join.h"
#include "server/jobs/failure_policy.h"
#include "server/jobs/job_service_impl.h"
#include "server/jobs/task_starts.h"

namespace liger::server {

using liger::trainer::v1::Ref;
using liger::worker::v1::Hello;
using liger::worker::v1::TaskEvent;
using liger::worker::v1::Verdict;

namespace {

// Why members of a gang are told to stop when another one has ended.
constexpr char kGangBroken[] = "GANG_BROKEN";

}  // namespace

// ---- workers

void JobService::Impl::OnHello(const Hello& hello,
                               std::function<void(absl::StatusOr<HelloAnswer>)> done) {
  {
    absl::MutexLock lock(&mutex_);
    buffer_.ForgetWorker(hello.worker_id());
    device_faults_.erase(hello.worker_id());
  }
  audit_.Forget(hello.worker_id());
  state_->health.OnHello(hello);
  auto reconciled = [self = shared_from_this(), hello,
                     done = std::move(done)](absl::StatusOr<ReconcileWorker::Result> result) {
    if (!result.ok()) return done(result.status());
    self->workers_.OnHello(hello, self->SteadyUs());
    // Before Welcome: nothing was given to this session yet.
    self->dry_runs_.FailUnowned(hello);
    self->looks_.GiveUp(hello.worker_id());
    HelloAnswer answer;
    answer.verdicts = std::move(result->verdicts);
    for (Verdict& verdict : answer.verdicts) {
      if (!DryRuns::IsDryRun(verdict.ref())) continue;
      if (!self->dry_runs_.Contains(verdict.ref().task_id())) continue;
      verdict.set_action(Verdict::ADOPT);
      verdict.set_ack_seq(0);
    }
    done(std::move(answer));
    self->fleet_.Call([&](FleetPort& fleet) {
      for (const PublishAnswer& grant : result->grants) fleet.AnswerPublish(grant);
      if (!result->reclaims.empty()) fleet.Reclaim(hello.worker_id(), result->reclaims);
    });
    for (const Ref& ref : result->restarts) self->StartAgain(hello.worker_id(), ref);
    self->StopTasks(result->stops, kGangBroken);
    self->PauseTasks(result->pauses);
    if (!hello.unfit().empty()) return self->OnFitness(hello.worker_id(), hello.unfit());
    self->loop_->Request();
  };
  store_.Apply<ReconcileWorker>(NowUs(), WorkerActor(hello.worker_id()),
                                {.hello = hello, .max_restarts = options_.max_restarts},
                                std::move(reconciled));
}

void JobService::Impl::StartAgain(const std::string& worker_id, const Ref& ref) {
  using Starts = std::vector<TaskStart>;
  store_.Read<Starts>(
      [ref](const ReadView& view) -> absl::StatusOr<Starts> {
        const std::optional<JobRow> job = view.Job(ref.job_uid());
        if (!job.has_value()) return Starts{};
        if (ref.epoch() == 0) {
          const std::optional<TaskRow> task = view.Task(ref.task_id());
          return task.has_value() ? Starts{CheckStart(*job, *task)} : Starts{};
        }
        const std::optional<AttemptRow> attempt = view.Attempt(job->uid, ref.epoch());
        if (!attempt.has_value() || IsOver(attempt->state)) return Starts{};
        return TrainStarts(*job, *attempt, view.Members(job->uid, ref.epoch()));
      },
      [self = shared_from_this(), worker_id](absl::StatusOr<Starts> starts) {
        if (!starts.ok()) return;
        for (TaskStart& start : *starts) {
          if (start.worker_id != worker_id) continue;
          start.repeated = true;
          self->fleet_.Call([&start](FleetPort& fleet) { fleet.StartGang({start}); });
        }
      });
}

void JobService::Impl::OnHeartbeat(const std::string& worker_id, std::vector<Ref> tasks) {
  if (!audit_.Due(worker_id, SteadyUs())) return;
  store_.Read<TaskDifferences>(
      [worker_id, tasks = std::move(tasks)](const ReadView& view)
          -> absl::StatusOr<TaskDifferences> { return CompareTasks(view, worker_id, tasks); },
      [self = shared_from_this(), worker_id](const absl::StatusOr<TaskDifferences>& differences) {
        if (differences.ok()) self->OnCompared(worker_id, *differences);
      });
}

void JobService::Impl::OnCompared(const std::string& worker_id,
                                  const TaskDifferences& differences) {
  std::vector<TaskStop> stops;
  for (const Ref& ref : differences.unknown) stops.push_back({worker_id, ref});
  StopTasks(stops, "STALE_EPOCH");
  if (audit_.Lasts(worker_id, differences.missing, SteadyUs())) {
    Reconnect(worker_id, absl::StrCat("its heartbeats do not tell of ",
                                      absl::StrJoin(differences.missing, ", ")));
  }
}

void JobService::Impl::OnInventory(UpdateInventory command) {
  workers_.OnInventory(command.worker_id, command.incarnation, command.inventory);
  {
    absl::MutexLock lock(&mutex_);
    const auto [it, idle] = storing_inventory_.try_emplace(command.worker_id, false);
    if (!idle) {
      it->second = true;
      return;
    }
  }
  StoreInventory(command.worker_id);
}

// The worker tells a change once. What is stored is what is known then: one list
// of a worker at a time is under way, however many come while the disk is full.
void JobService::Impl::StoreInventory(const std::string& worker_id) {
  {
    absl::MutexLock lock(&mutex_);
    storing_inventory_[worker_id] = false;
  }
  const std::optional<WorkerRow> worker = workers_.Find(worker_id);
  if (!worker.has_value()) return OnInventoryStored(worker_id, absl::OkStatus());
  const auto& inventory = worker->hello.inventory();
  store_.Apply<UpdateInventory>(
      NowUs(), WorkerActor(worker_id),
      {worker_id, worker->incarnation, {inventory.begin(), inventory.end()}},
      [self = shared_from_this(), worker_id](const auto& result) {
        self->OnInventoryStored(worker_id, result.status());
      });
}

void JobService::Impl::OnInventoryStored(const std::string& worker_id, const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    if (IsStorageError(status)) {
      unstored_.push_back([this, worker_id] { StoreInventory(worker_id); });
      return;
    }
    const auto it = storing_inventory_.find(worker_id);
    if (!it->second) {
      storing_inventory_.erase(it);
    } else {
      // By the next tick, not from the store's own callback.
      unstored_.push_back([this, worker_id] { StoreInventory(worker_id); });
    }
  }
  loop_->Request();
}

void JobService::Impl::OnWorkerLost(LoseWorker command) {
  // Its Hello overtook the end of its lease.
  if (IsConnected(command.worker_id)) return;
  looks_.GiveUp(command.worker_id);
  command.max_restarts = options_.max_restarts;
  if (workers_.OnLost(command.worker_id, command.incarnation)) {
    dry_runs_.FailWorker(command.worker_id,
                         absl::UnavailableError(absl::StrCat("worker ", command.worker_id,
                                                             " was lost during the check")));
  }
  Insist<LoseWorker>(
      "system", command,
      [this, worker_id = command.worker_id](const LoseWorker::Result& result) {
        StopTasks(result.stops, kGangBroken);
        Reclaim(result.reclaims);
        // Or it came while this was stored: the store has it as LOST.
        if (IsConnected(worker_id)) Reconnect(worker_id, "its lease had run out");
      },
      [this, command] { OnWorkerLost(command); });
}

bool JobService::Impl::IsConnected(const std::string& worker_id) {
  bool connected = false;
  fleet_.Call([&](FleetPort& fleet) { connected = fleet.IsConnected(worker_id); });
  return connected;
}

void JobService::Impl::Reconnect(const std::string& worker_id, const std::string& reason) {
  fleet_.Call([&](FleetPort& fleet) { fleet.Disconnect(worker_id, reason); });
}

void JobService::Impl::OnTaskRefused(const std::string& worker_id, const Ref& ref,
                                     const std::string& reason, bool others_run) {
  state_->health.OnGivenUp(worker_id, ref.job_uid());
  const std::string detail = absl::StrCat("worker ", worker_id, " did not start it: ", reason);
  if (DryRuns::IsDryRun(ref)) {
    dry_runs_.Fail(ref.task_id(), absl::UnavailableError(detail));
    return loop_->Request();  // its slot is free
  }
  loop_->Exclude(ref.job_uid(), worker_id, detail);
  AbandonAttempt command{.worker_id = worker_id, .job_uid = ref.job_uid(), .epoch = ref.epoch()};
  command.detail = detail;
  command.task_id = ref.task_id();
  command.others_run = others_run;
  Insist<AbandonAttempt>(
      WorkerActor(worker_id), command,
      [this](const AbandonAttempt::Result& result) { StopTasks(result.stops, kGangBroken); });
}

void JobService::Impl::OnDeviceFaults(CordonDevices command) {
  {
    // Every heartbeat tells all of them.
    absl::MutexLock lock(&mutex_);
    std::map<std::string, std::string>& known = device_faults_[command.worker_id];
    bool news = false;
    for (const liger::worker::v1::DeviceFault& fault : command.faults) {
      news |= known.insert_or_assign(fault.device_uuid(), fault.fault()).second;
    }
    if (!news) return;
  }
  Insist(WorkerActor(command.worker_id), command);
}

void JobService::Impl::OnReclaimed(const std::string& worker_id, FinishReclaims command) {
  // When this is not stored the worker is asked again.
  store_.Apply<FinishReclaims>(NowUs(), WorkerActor(worker_id), std::move(command), {});
}

void JobService::Impl::SendReclaims(const std::string& worker_id) {
  store_.Read<std::vector<ReclaimRow>>(
      [worker_id](const ReadView& view) -> absl::StatusOr<std::vector<ReclaimRow>> {
        return view.Reclaims(worker_id);
      },
      [self = shared_from_this(), worker_id](absl::StatusOr<std::vector<ReclaimRow>> reclaims) {
        // What is not sent now comes after the next Hello.
        if (!reclaims.ok() || reclaims->empty()) return;
        self->fleet_.Call([&](FleetPort& fleet) { fleet.Reclaim(worker_id, *reclaims); });
      });
}

void JobService::Impl::StopTasks(const std::vector<TaskStop>& stops, const std::string& reason) {
  for (const TaskStop& stop : stops) {
    fleet_.Call(
        [&](FleetPort& fleet) { fleet.StopTask(stop, options_.stop_grace_seconds, reason); });
  }
}

void JobService::Impl::PauseTasks(const std::vector<TaskStop>& pauses) {
  for (const TaskStop& pause : pauses) {
    fleet_.Call([&pause](FleetPort& fleet) { fleet.PauseTask(pause); });
  }
}

// ---- events

void JobService::Impl::OnTaskEvent(const std::string& worker_id, const TaskEvent& told) {
  state_->health.OnEvent(worker_id, told, SteadyUs());
  TaskEvent noted;
  const bool ends = told.has_check_result() || told.has_exited();
  if (ends) {
    noted = told;
    AddNearDatasets(catalog_, &noted);
  }
  const TaskEvent& event = ends ? noted : told;
  if (DryRuns::IsDryRun(event.ref())) {
    if (dry_runs_.OnEvent(event)) loop_->Request();  // its slot is free
    return fleet_.Call(
        [&](FleetPort& fleet) { fleet.AckEvents(worker_id, event.ref(), event.seq()); });
  }
  ReportBuffer::Added added;
  {
    absl::MutexLock lock(&mutex_);
    added = buffer_.Add(worker_id, event);
  }
  // A repeated event was acknowledged or will be. A misplaced one is dropped:
  // the worker replays from what was acknowledged, in its next session.
  if (added.gap) Reconnect(worker_id, "an event is missing");
  if (added.ready.has_value()) Report(*std::move(added.ready));
}

void JobService::Impl::Report(ReportTask report) {
  auto kept = std::make_shared<const ReportTask>(report);
  store_.Apply<ReportTask>(
      NowUs(), WorkerActor(kept->worker_id), std::move(report),
      [self = shared_from_this(), kept](absl::StatusOr<ReportTask::Result> result) {
        self->OnReported(*kept, result);
      });
}

void JobService::Impl::OnReported(const ReportTask& report,
                                  const absl::StatusOr<ReportTask::Result>& result) {
  if (absl::IsOutOfRange(result.status()) || absl::IsInternal(result.status())) {
    {
      absl::MutexLock lock(&mutex_);
      buffer_.ForgetTask(report.worker_id, report.ref);
    }
    // Nothing later of this task could be stored in this session.
    return Reconnect(report.worker_id, std::string(result.status().message()));
  }
  if (!result.ok()) {
    absl::MutexLock lock(&mutex_);
    return buffer_.Return(report);
  }
  fleet_.Call([&](FleetPort& fleet) {
    fleet.AckEvents(report.worker_id, report.ref, result->acked_seq);
    if (result->publish.has_value()) fleet.AnswerPublish(*result->publish);
    if (result->stale) {
      fleet.StopTask({report.worker_id, report.ref}, options_.stop_grace_seconds, "STALE_EPOCH");
    }
    if (result->pause) fleet.PauseTask({report.worker_id, report.ref});
  });
  StopTasks(result->stops, kGangBroken);
  if (result->gang_broken) SettleAfter(report.ref.job_uid(), report.ref.epoch());
  const bool granted = result->publish.has_value() && result->publish->granted;
  if (granted || report.publication.has_value() || !result->reclaims.empty()) {
    for (const ReclaimRow& row : result->reclaims) {
      if (row.worker_id != report.worker_id) Reclaim({row});
    }
    SendReclaims(report.worker_id);  // and what it has not done of earlier ones
  }
  if (report.exit.has_value()) {
    absl::MutexLock lock(&mutex_);
    buffer_.ForgetTask(report.worker_id, report.ref);
    cancel_deadlines_.erase({report.ref.job_uid(), report.ref.epoch()});
  }
  if (report.exit.has_value() || report.check_result.has_value()) loop_->Request();
}

}  // namespace liger::server
