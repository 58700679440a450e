// What JobService wants done (FleetPort).

#include "absl/strings/str_cat.h"
#include "server/fleet/fleet.h"
#include "server/fleet/messages.h"
#include "server/jobs/job_service.h"
#include "server/jobs/task_key.h"

namespace liger::server {

using liger::worker::v1::CoordinatorMessage;

bool Fleet::IsConnected(const std::string& worker_id) const {
  absl::MutexLock lock(&mutex_);
  const auto it = workers_.find(worker_id);
  return it != workers_.end() && it->second.link != nullptr && it->second.welcomed;
}

bool Fleet::TakesTasks(const std::string& worker_id) const {
  absl::MutexLock lock(&mutex_);
  const auto it = workers_.find(worker_id);
  return it != workers_.end() && it->second.link != nullptr && it->second.welcomed &&
         !it->second.draining;
}

std::string Fleet::WhyUnfit(const std::string& worker_id) const {
  absl::MutexLock lock(&mutex_);
  const auto it = workers_.find(worker_id);
  return it == workers_.end() ? "" : it->second.unfit;
}

void Fleet::Disconnect(const std::string& worker_id, const std::string& reason) {
  Ended ended;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = workers_.find(worker_id);
    if (it == workers_.end()) return;
    ended = Detach(&it->second);
  }
  Finish(ended, absl::UnavailableError(absl::StrCat(reason, "; connect again")));
}

void Fleet::StartGang(const std::vector<TaskStart>& members) {
  Outgoing prepares;
  const TaskStart* absent = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    for (const TaskStart& start : members) {
      const auto it = workers_.find(start.worker_id);
      const bool here = it != workers_.end() && it->second.link != nullptr && it->second.welcomed;
      if (!here && absent == nullptr) absent = &start;
    }
    if (absent == nullptr) {
      auto gang = std::make_shared<Gang>();
      gang->awaited = members.size();
      gang->deadline = Now() + options_.prepare_timeout;
      for (const TaskStart& start : members) {
        gang->workers.push_back(start.worker_id);
        Worker& worker = workers_[start.worker_id];
        worker.preparing.insert_or_assign(KeyOf(start.ref), Preparing{start, gang});
        prepares.emplace_back(worker.link, PrepareMessage(start, options_.prepare_timeout));
      }
    }
  }
  for (const auto& [link, message] : prepares) link->Send(message);
  if (absent != nullptr && !absent->repeated) {
    jobs_->OnTaskRefused(absent->worker_id, absent->ref, "it is not connected",
                         /*others_run=*/false);
  }
}

void Fleet::StopTask(const TaskStop& stop, double grace_seconds, const std::string& reason) {
  GivenUp given_up;
  {
    absl::MutexLock lock(&mutex_);
    const auto worker = workers_.find(stop.worker_id);
    if (worker == workers_.end()) return;
    const auto it = worker->second.preparing.find(KeyOf(stop.ref));
    if (it != worker->second.preparing.end()) {
      if (it->second.start.repeated) {
        worker->second.preparing.erase(it);
      } else {
        given_up = GiveUp(Preparing(it->second), "");
      }
    }
  }
  // The worker takes STOP as Abort for what it has only reserved.
  if (given_up.start.worker_id.empty()) {
    return SendTo(stop.worker_id, StopMessage(stop.ref, grace_seconds, reason));
  }
  Report(given_up, absl::StrCat("stopped before its start (", reason, ")"));
}

void Fleet::PauseTask(const TaskStop& stop) { SendTo(stop.worker_id, PauseMessage(stop.ref)); }

void Fleet::AckEvents(const std::string& worker_id, const liger::trainer::v1::Ref& ref,
                      int64_t through_seq) {
  CoordinatorMessage message;
  *message.mutable_event_ack()->mutable_ref() = ref;
  message.mutable_event_ack()->set_through_seq(through_seq);
  SendTo(worker_id, message);
}

void Fleet::AnswerPublish(const PublishAnswer& answer) {
  SendTo(answer.worker_id, PublishMessage(answer));
}

void Fleet::Reclaim(const std::string& worker_id, const std::vector<ReclaimRow>& outputs) {
  SendTo(worker_id, ReclaimMessage(outputs));
}

void Fleet::Look(const std::string& worker_id, int64_t id) {
  CoordinatorMessage message;
  message.mutable_look()->set_id(id);
  SendTo(worker_id, message);
}

void Fleet::SendTo(const std::string& worker_id, const CoordinatorMessage& message) {
  std::shared_ptr<WorkerLink> link;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = workers_.find(worker_id);
    if (it == workers_.end() || !it->second.welcomed) return;
    link = it->second.link;
  }
  if (link != nullptr) link->Send(message);
}

}  // namespace liger::server
