// What the coordinator says, and what the agent does about it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/host_resources.h"
#include "common/tls.h"
#include "worker/agent/agent.h"
#include "worker/agent/log.h"
#include "worker/agent/reclaim.h"
#include "worker/agent/steady_time.h"
#include "worker/agent/version.h"

namespace liger::agent {

using worker::v1::CoordinatorMessage;
using worker::v1::WorkerMessage;

void Agent::OnStreamOpened(int64_t stream_id) {
  stream_id_ = stream_id;
  welcomed_ = false;
  hello_sent_ = SteadyNow();
  Send(MakeHello());
}

void Agent::Advertise(const Advertised& derived) {
  if (!Replaces(derived, advertised_)) return;
  advertised_ = derived;
  reservations_->SetAdvertiseAddress(advertised_.address);
  if (!advertised_.warning.empty()) LogWarning(advertised_.warning);
  LogInfo("other workers reach this one at ", advertised_.address);
}

void Agent::OnStreamClosed(int64_t stream_id, const absl::Status& status) {
  if (stream_id != stream_id_) return;
  const std::string reason = status.ToString();
  if (welcomed_) {
    LogWarning("session ended: ", reason);
  } else if (!absl::IsCancelled(status) && reason != last_refusal_) {
    // Each reason once: the next attempts are seconds apart.
    const std::string advice = TlsAdvice(reason);
    LogWarning("no session with the coordinator at ", options_.coordinator, ": ", reason,
               advice.empty() ? "" : "; ", advice, "; trying again until there is one");
    last_refusal_ = reason;
  }
  stream_id_ = 0;
  welcomed_ = false;
  metrics_->SessionEnded();
}

WorkerMessage Agent::MakeHello() const {
  WorkerMessage message;
  worker::v1::Hello* hello = message.mutable_hello();
  hello->set_worker_id(identity_->worker_id());
  hello->set_incarnation(identity_->incarnation());
  hello->set_boot_id(identity_->boot_id());
  hello->set_protocol_min(1);
  hello->set_protocol_max(1);
  hello->set_build(build_);
  hello->set_advertise_address(advertised_.address);
  hello->set_host_name(HostName());
  for (const auto& device : ledger_->devices()) *hello->add_devices() = device;
  hello->mutable_inventory()->Assign(inventory_.begin(), inventory_.end());
  for (auto& owned : tasks_->Owned()) *hello->add_owned() = std::move(owned);
  hello->set_term_seen(identity_->term_seen());
  hello->set_model_root(model_root_->path());
  hello->set_dataset_root(dataset_root_->path());
  hello->set_output_root(output_root_->path());
  hello->set_draining(draining_);
  hello->set_unfit(unfit_);
  hello->set_tells_publications(true);
  return message;
}

void Agent::OnMessage(int64_t stream_id, const CoordinatorMessage& message) {
  // Of a session that is over: the coordinator repeats what still holds.
  if (stream_id != stream_id_) return;
  if (message.has_welcome()) return OnWelcome(message.welcome());
  if (!welcomed_) return;
  switch (message.message_case()) {
    case CoordinatorMessage::kHeartbeatAck:
      return lease_.HeartbeatAcknowledged(message.heartbeat_ack().seq());
    case CoordinatorMessage::kPrepare:
      return OnPrepare(message.prepare());
    case CoordinatorMessage::kStart:
      return OnStart(message.start());
    case CoordinatorMessage::kAbort:
      return reservations_->Abort(message.abort().ref());
    case CoordinatorMessage::kControl:
      return OnControl(message.control());
    case CoordinatorMessage::kPublishGranted:
      if (TaskRunner* task = tasks_->Find(message.publish_granted().ref())) {
        task->publications().Granted(message.publish_granted());
      }
      return;
    case CoordinatorMessage::kPublishDenied:
      if (TaskRunner* task = tasks_->Find(message.publish_denied().ref())) {
        task->publications().Denied(message.publish_denied());
      }
      return;
    case CoordinatorMessage::kEventAck:
      if (TaskRunner* task = tasks_->Find(message.event_ack().ref())) {
        task->Acknowledge(message.event_ack().through_seq());
      }
      return;
    case CoordinatorMessage::kReclaim:
      return OnReclaim(message.reclaim());
    case CoordinatorMessage::kDrain:
      LogInfo("draining: nothing new is started here");
      return Drain();
    case CoordinatorMessage::kLook:
      look_ = message.look().id();
      return inventory_thread_->Look(look_);
    case CoordinatorMessage::kWelcome:
    case CoordinatorMessage::MESSAGE_NOT_SET:
      return;
  }
}

void Agent::OnWelcome(const worker::v1::Welcome& welcome) {
  if (absl::Status s = identity_->AcceptTerm(welcome.term()); !s.ok()) {
    LogError("refusing the coordinator at ", options_.coordinator, ": ", s.message());
    return session_->Close(stream_id_);
  }
  LogInfo("session ", welcome.session_id(), " with ", options_.coordinator, ", term ",
          welcome.term());
  if (Replaces(derived_, advertised_)) {  // the Hello told another one
    Advertise(derived_);
    return session_->Close(stream_id_);
  }
  // Before there is a lease again: what an attempt that is over was about to publish stays away.
  for (const worker::v1::Verdict& verdict : welcome.verdicts()) Obey(verdict);
  lease_.Renew(welcome.lease(), hello_sent_);
  welcomed_ = true;
  // Another coordinator's ids may be lower.
  look_ = looked_ = 0;
  last_refusal_.clear();
  next_heartbeat_ = absl::InfinitePast();
  // A worker is back well within the lease that a returning coordinator grants.
  session_->ResetBackoff(lease_.fence() / 6);
  // Not among what this worker owned, so the coordinator has given them up.
  reservations_->AbortAll();
  inventory_thread_->SetCatalogUris({welcome.catalog_uris().begin(), welcome.catalog_uris().end()});
  tasks_->Replay([this](WorkerMessage message) { Send(std::move(message)); });
}

void Agent::Obey(const worker::v1::Verdict& verdict) {
  TaskRunner* task = tasks_->Find(verdict.ref());
  if (task == nullptr) return;
  task->Acknowledge(verdict.ack_seq());
  if (verdict.action() != worker::v1::Verdict::STOP) return;
  task->Stop(options_.stop_grace, "STALE_EPOCH: the coordinator no longer runs this attempt here");
  task->Disown();
}

std::string Agent::ReasonToRefuse() const {
  if (draining_) return "the worker is draining";
  if (lease_.Fenced(SteadyNow())) return "the worker's lease is over";
  if (!unfit_.empty()) return unfit_;
  return "";
}

void Agent::Refuse(const trainer::v1::Ref& ref, const std::string& reason, bool unfit) {
  LogWarning("refusing task ", TaskKey(ref), ": ", reason);
  WorkerMessage message;
  *message.mutable_refused()->mutable_ref() = ref;
  message.mutable_refused()->set_reason(reason);
  message.mutable_refused()->set_unfit(unfit);
  Send(std::move(message));
}

void Agent::OnPrepare(worker::v1::Prepare prepare) {
  // A CHECK needs no device and comes without ranks; one process runs it.
  if (prepare.local_ranks().empty()) prepare.add_local_ranks();
  // Started already: a repeated command gets the same answer.
  if (const TaskRunner* task = tasks_->Find(prepare.ref())) {
    return SendPrepared(prepare.ref(), task->master());
  }
  if (const std::string reason = ReasonToRefuse(); !reason.empty()) {
    return Refuse(prepare.ref(), reason, reason == unfit_);
  }
  for (TaskRunner* older : tasks_->Older(prepare.ref())) {
    older->Stop(options_.stop_grace, "STALE_EPOCH: a newer attempt of the job was prepared");
  }
  reservations_->AbortOlder(prepare.ref());
  absl::StatusOr<worker::v1::Master> master = reservations_->Prepare(prepare, SteadyNow());
  if (!master.ok()) return Refuse(prepare.ref(), std::string(master.status().message()));
  SendPrepared(prepare.ref(), *master);
}

void Agent::SendPrepared(const trainer::v1::Ref& ref, const worker::v1::Master& master) {
  WorkerMessage message;
  *message.mutable_prepared()->mutable_ref() = ref;
  *message.mutable_prepared()->mutable_master() = master;
  Send(std::move(message));
}

void Agent::OnStart(const worker::v1::Start& start) {
  if (tasks_->Find(start.ref()) != nullptr) return;
  if (const std::string reason = ReasonToRefuse(); !reason.empty()) {
    reservations_->Abort(start.ref());
    return Refuse(start.ref(), reason, reason == unfit_);
  }
  std::optional<worker::v1::Prepare> prepare = reservations_->Take(start.ref());
  if (!prepare) return Refuse(start.ref(), "not prepared, or prepared too long ago");
  if (absl::Status s = tasks_->Start(*prepare, start); !s.ok()) {
    ledger_->Release(TaskKey(start.ref()));
    ports_->Release(TaskKey(start.ref()));
    // An invalid argument is the job's doing.
    Refuse(start.ref(), std::string(s.message()), !absl::IsInvalidArgument(s));
  }
}

void Agent::OnControl(const worker::v1::Control& control) {
  if (TaskRunner* task = tasks_->Find(control.ref())) return task->Control(control.command());
  if (control.command().has_stop()) reservations_->Abort(control.ref());
}

void Agent::OnReclaim(const worker::v1::Reclaim& reclaim) {
  for (const worker::v1::PublishedOutput& output : reclaim.outputs()) {
    publish_thread_->Run([this, output] {
      absl::Status removed = RemoveOutput(*output_root_, output);
      // The coordinator asks again in the next session.
      if (!removed.ok()) {
        return LogWarning("cannot remove ", output.uri(), ": ", removed.ToString());
      }
      loop_.Post([this, output] {
        WorkerMessage message;
        *message.mutable_reclaimed()->add_outputs() = output;
        Send(std::move(message));
      });
    });
  }
}

}  // namespace liger::agent
