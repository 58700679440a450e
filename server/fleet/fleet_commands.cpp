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

void Fleet::StartTask(const TaskStart& start) {
  bool connected = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = workers_.find(start.worker_id);
    connected = it != workers_.end() && it->second.link != nullptr && it->second.welcomed;
    if (connected) {
      it->second.preparing.insert_or_assign(KeyOf(start.ref),
                                            Preparing{start, Now() + options_.prepare_timeout});
    }
  }
  if (connected) return SendTo(start.worker_id, PrepareMessage(start, options_.prepare_timeout));
  if (!start.repeated) jobs_->OnTaskRefused(start.worker_id, start.ref, "it is not connected");
}

void Fleet::StopTask(const TaskStop& stop, double grace_seconds, const std::string& reason) {
  bool unstarted = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto worker = workers_.find(stop.worker_id);
    if (worker == workers_.end()) return;
    const auto it = worker->second.preparing.find(KeyOf(stop.ref));
    if (it != worker->second.preparing.end()) {
      unstarted = !it->second.start.repeated;
      worker->second.preparing.erase(it);
    }
  }
  // The worker takes STOP as Abort for what it has only reserved.
  if (!unstarted) return SendTo(stop.worker_id, StopMessage(stop.ref, grace_seconds, reason));
  SendTo(stop.worker_id, AbortMessage(stop.ref));
  jobs_->OnTaskRefused(stop.worker_id, stop.ref,
                       absl::StrCat("stopped before its start (", reason, ")"));
}

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
