#include "server/fleet/fleet.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/ids.h"
#include "server/errors/errors.h"
#include "server/fleet/messages.h"
#include "server/jobs/job_service.h"
#include "server/jobs/task_key.h"

namespace liger::server {
namespace {

using liger::worker::v1::CoordinatorMessage;
using liger::worker::v1::Hello;
using liger::worker::v1::WorkerMessage;

constexpr int kProtocol = 1;

absl::Status CheckHello(const Hello& hello) {
  if (hello.worker_id().empty()) return InvalidArgument("hello.worker_id", "must be set");
  if (hello.incarnation() <= 0) return InvalidArgument("hello.incarnation", "must be positive");
  if (hello.protocol_min() > kProtocol || hello.protocol_max() < kProtocol) {
    return ErrorWithReason(absl::StatusCode::kFailedPrecondition, "PROTOCOL_MISMATCH",
                           absl::StrCat("this coordinator speaks worker protocol ", kProtocol,
                                        ", the worker ", hello.protocol_min(), " to ",
                                        hello.protocol_max(), ": upgrade the older of the two"));
  }
  return absl::OkStatus();
}

absl::Status StaleIncarnation(const std::string& worker_id) {
  return ErrorWithReason(absl::StatusCode::kFailedPrecondition, "STALE_INCARNATION",
                         absl::StrCat("a newer agent runs as worker '", worker_id,
                                      "'; stop this one, or give it its own --data-dir"));
}

absl::Status LeaseExpired() {
  return ErrorWithReason(absl::StatusCode::kUnavailable, "LEASE_EXPIRED",
                         "no heartbeat within the lease; connect again to be reconciled");
}

}  // namespace

Fleet::Fleet(FleetOptions options)
    : options_([&] {
        if (!options.monotonic_now) options.monotonic_now = [] { return Clock::Real()->Elapsed(); };
        return std::move(options);
      }()) {}

Fleet::~Fleet() = default;

void Fleet::Start(JobService* jobs, const std::vector<WorkerRow>& known) {
  jobs_ = jobs;
  absl::MutexLock lock(&mutex_);
  last_tick_ = Now();
  for (const WorkerRow& row : known) {
    Worker& worker = workers_[row.worker_id];
    worker.incarnation = row.incarnation;
    if (row.state != WorkerState::kLost) worker.last_heartbeat = Now();
  }
}

void Fleet::Stop() {
  std::vector<std::shared_ptr<WorkerLink>> links;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    for (auto& [id, worker] : workers_) {
      if (worker.link != nullptr) links.push_back(worker.link);
    }
  }
  for (const auto& link : links) {
    link->Close(absl::UnavailableError("the coordinator is shutting down; connect again"));
  }
}

std::map<std::string, Fleet::WorkerView> Fleet::Workers() const {
  std::map<std::string, std::string> unfit;
  if (jobs_ != nullptr) unfit = jobs_->RestingWorkers();
  absl::MutexLock lock(&mutex_);
  std::map<std::string, WorkerView> views;
  for (const auto& [id, worker] : workers_) {
    views[id] = {worker.link != nullptr && worker.welcomed, worker.draining,
                 worker.unfit.empty() ? unfit[id] : worker.unfit, worker.last_heartbeat_wall};
  }
  return views;
}

WorkerState Fleet::StateOf(const WorkerRow& row, const std::map<std::string, WorkerView>& live) {
  const auto it = live.find(row.worker_id);
  if (it == live.end() || row.state != WorkerState::kReady) return row.state;
  if (it->second.draining) return WorkerState::kDraining;
  return it->second.unfit.empty() ? row.state : WorkerState::kUnfit;
}

std::optional<absl::Duration> Fleet::IdleTime(const liger::trainer::v1::Ref& ref) const {
  const std::string key = KeyOf(ref);
  absl::MutexLock lock(&mutex_);
  // Of a gang, that of the worker that lags behind.
  std::optional<absl::Duration> idle;
  for (const auto& [id, worker] : workers_) {
    const auto it = worker.got_on.find(key);
    if (it == worker.got_on.end()) continue;
    idle = std::max(idle.value_or(absl::ZeroDuration()), Now() - it->second);
  }
  return idle;
}

// ---- what workers say

void Fleet::OnMessage(const std::shared_ptr<WorkerLink>& link, WorkerMessage message) {
  if (message.has_hello()) return OnHello(link, message.hello());
  std::string worker_id;
  {
    absl::MutexLock lock(&mutex_);
    const Worker* worker = FindByLink(link, &worker_id);
    // A session that was replaced may still have messages under way.
    if (worker == nullptr) worker_id.clear();
  }
  if (worker_id.empty()) {
    return link->Close(absl::FailedPreconditionError(
        "no session: Hello must come first, and a newer session of the worker ends this one"));
  }
  switch (message.message_case()) {
    case WorkerMessage::kHeartbeat:
      return OnHeartbeat(link, worker_id, std::move(*message.mutable_heartbeat()));
    case WorkerMessage::kPrepared:
      return OnPrepared(link, worker_id, message.prepared());
    case WorkerMessage::kRefused:
      return OnRefused(worker_id, message.refused());
    case WorkerMessage::kEvent:
      return OnEvent(link, worker_id, message.event());
    case WorkerMessage::kReclaimed:
      return jobs_->OnReclaimed(worker_id, FromProto(worker_id, message.reclaimed()));
    case WorkerMessage::kHello:
    case WorkerMessage::MESSAGE_NOT_SET:
      return;  // of a newer protocol
  }
}

void Fleet::OnHello(const std::shared_ptr<WorkerLink>& link, const Hello& hello) {
  Ended replaced;
  if (absl::Status status = Register(link, hello, &replaced); !status.ok()) {
    return link->Close(status);
  }
  Finish(replaced, StaleIncarnation(hello.worker_id()));
  jobs_->OnHello(hello, [this, link, id = hello.worker_id()](absl::StatusOr<HelloAnswer> answer) {
    if (!answer.ok()) return link->Close(answer.status());
    Welcome(link, id, answer->verdicts);
  });
}

absl::Status Fleet::Register(const std::shared_ptr<WorkerLink>& link, const Hello& hello,
                             Ended* replaced) {
  if (absl::Status status = CheckHello(hello); !status.ok()) return status;
  absl::MutexLock lock(&mutex_);
  if (stopped_) return absl::UnavailableError("the coordinator is shutting down");
  if (worker_of_link_.contains(link.get())) {
    return absl::FailedPreconditionError("Hello must come once in a session");
  }
  Worker& worker = workers_[hello.worker_id()];
  if (hello.incarnation() < worker.incarnation) return StaleIncarnation(hello.worker_id());
  *replaced = Detach(&worker);
  worker.incarnation = hello.incarnation();
  worker.link = link;
  worker.draining = hello.draining();
  worker.unfit = hello.unfit();
  worker_of_link_[link.get()] = hello.worker_id();
  // The lease that runs, runs on; a lost worker's begins with Welcome.
  if (worker.last_heartbeat.has_value()) worker.last_heartbeat = Now();
  return absl::OkStatus();
}

void Fleet::Welcome(const std::shared_ptr<WorkerLink>& link, const std::string& worker_id,
                    const std::vector<liger::worker::v1::Verdict>& verdicts) {
  CoordinatorMessage message;
  liger::worker::v1::Welcome* welcome = message.mutable_welcome();
  welcome->set_session_id(NewUuid());
  welcome->set_term(options_.term);
  welcome->set_generation(options_.generation);
  *welcome->mutable_lease() = ToProto(options_.lease);
  welcome->mutable_verdicts()->Assign(verdicts.begin(), verdicts.end());
  welcome->mutable_catalog_uris()->Assign(options_.catalog_uris.begin(),
                                          options_.catalog_uris.end());
  absl::MutexLock lock(&mutex_);
  std::string current;
  Worker* worker = FindByLink(link, &current);
  if (worker == nullptr || current != worker_id) return;  // replaced or gone meanwhile
  worker->last_heartbeat = Now();
  worker->last_heartbeat_wall = absl::Now();
  // Sent under the lock: no command may overtake Welcome.
  link->Send(message);
  worker->welcomed = true;
  for (const liger::trainer::v1::Ref& ref : std::exchange(worker->to_abort, {})) {
    link->Send(AbortMessage(ref));
  }
}

void Fleet::OnHeartbeat(const std::shared_ptr<WorkerLink>& link, const std::string& worker_id,
                        liger::worker::v1::Heartbeat heartbeat) {
  int64_t incarnation = 0;
  bool fitness_changed = false;
  {
    absl::MutexLock lock(&mutex_);
    std::string current;
    Worker* worker = FindByLink(link, &current);
    // Before Welcome, and after the lease ran out, there is no lease to renew.
    if (worker == nullptr || !worker->welcomed || !worker->last_heartbeat.has_value()) return;
    worker->last_heartbeat = Now();
    worker->last_heartbeat_wall = absl::Now();
    worker->draining = heartbeat.draining();
    fitness_changed = std::exchange(worker->unfit, heartbeat.unfit()) != heartbeat.unfit();
    worker->got_on.clear();
    for (const liger::worker::v1::TaskStatus& task : heartbeat.tasks()) {
      worker->got_on[KeyOf(task.ref())] = Now() - absl::Seconds(task.last_progress_age_seconds());
    }
    incarnation = worker->incarnation;
  }
  CoordinatorMessage ack;
  ack.mutable_heartbeat_ack()->set_seq(heartbeat.seq());
  link->Send(ack);
  std::vector<liger::trainer::v1::Ref> tasks;
  for (const liger::worker::v1::TaskStatus& task : heartbeat.tasks()) tasks.push_back(task.ref());
  jobs_->OnHeartbeat(worker_id, std::move(tasks));
  if (fitness_changed) jobs_->OnFitness(worker_id, heartbeat.unfit());
  if (!heartbeat.device_faults().empty()) {
    jobs_->OnDeviceFaults(worker_id, incarnation,
                          {heartbeat.device_faults().begin(), heartbeat.device_faults().end()});
  }
  if (heartbeat.inventory_changed()) {
    jobs_->OnInventory(worker_id, incarnation,
                       {std::make_move_iterator(heartbeat.mutable_inventory()->begin()),
                        std::make_move_iterator(heartbeat.mutable_inventory()->end())});
  }
  if (heartbeat.looked() > 0) jobs_->OnLooked(worker_id, heartbeat.looked());
}

void Fleet::OnEvent(const std::shared_ptr<WorkerLink>& link, const std::string& worker_id,
                    const liger::worker::v1::TaskEvent& event) {
  const bool train = event.ref().epoch() > 0;
  if (!event.has_exited() || !train || !options_.settle_bulk) {
    return jobs_->OnTaskEvent(worker_id, event);
  }
  int64_t incarnation = 0;
  {
    absl::MutexLock lock(&mutex_);
    incarnation = workers_[worker_id].incarnation;
  }
  options_.settle_bulk(event.ref(), [this, link, worker_id, incarnation, event] {
    {
      absl::MutexLock lock(&mutex_);
      const Worker& worker = workers_[worker_id];
      // In a newer session the worker tells it again; without one it may have been its last word.
      const bool newer =
          worker.incarnation != incarnation || (worker.link != nullptr && worker.link != link);
      if (stopped_ || newer) return;
    }
    jobs_->OnTaskEvent(worker_id, event);
  });
}

void Fleet::OnClosed(const std::shared_ptr<WorkerLink>& link) {
  Ended ended;
  {
    absl::MutexLock lock(&mutex_);
    std::string worker_id;
    Worker* worker = FindByLink(link, &worker_id);
    if (worker == nullptr) return;
    // The lease decides about the worker, not its connection.
    ended = Detach(worker);
  }
  Finish(ended, absl::OkStatus());
}

Fleet::Ended Fleet::Detach(Worker* worker) {
  Ended ended;
  if (worker->link != nullptr) worker_of_link_.erase(worker->link.get());
  ended.link = std::exchange(worker->link, nullptr);
  worker->welcomed = false;
  const std::map<std::string, Preparing> unstarted = std::exchange(worker->preparing, {});
  for (const auto& [key, preparing] : unstarted) {
    if (!preparing.start.repeated) ended.unstarted.push_back(GiveUp(preparing, ""));
  }
  return ended;
}

void Fleet::Finish(const Ended& ended, const absl::Status& status) {
  if (ended.link != nullptr) ended.link->Close(status);
  for (const GivenUp& given_up : ended.unstarted) {
    Report(given_up, "its session ended before the start");
  }
}

Fleet::Worker* Fleet::FindByLink(const std::shared_ptr<WorkerLink>& link, std::string* worker_id) {
  const auto it = worker_of_link_.find(link.get());
  if (it == worker_of_link_.end()) return nullptr;
  *worker_id = it->second;
  return &workers_[it->second];
}

// ---- time

void Fleet::Tick() {
  std::vector<std::pair<std::string, int64_t>> lost;
  std::vector<Ended> cut;
  std::vector<GivenUp> late;
  {
    absl::MutexLock lock(&mutex_);
    if (stopped_) return;
    const absl::Duration now = Now();
    // A coordinator that stood still (suspended machine, SIGSTOP) did not hear
    // the heartbeats of that time; it counts against nobody.
    const absl::Duration pause = now - last_tick_;
    last_tick_ = now;
    const bool stood_still = pause > options_.lease.reassign - options_.lease.fence;
    for (auto& [id, worker] : workers_) {
      if (stood_still && worker.last_heartbeat.has_value()) *worker.last_heartbeat += pause;
      if (worker.last_heartbeat.has_value() &&
          now - *worker.last_heartbeat >= options_.lease.reassign) {
        worker.last_heartbeat.reset();
        lost.emplace_back(id, worker.incarnation);
        cut.push_back(Detach(&worker));
      }
    }
    late = GiveUpLate();
  }
  for (const Ended& ended : cut) Finish(ended, LeaseExpired());
  for (const auto& [id, incarnation] : lost) jobs_->OnWorkerLost(id, incarnation);
  for (const GivenUp& given_up : late) {
    Report(given_up,
           absl::StrCat("not prepared within ", absl::FormatDuration(options_.prepare_timeout)));
  }
}

}  // namespace liger::server
