#include "server/fleet/messages.h"

#include "absl/strings/str_cat.h"

namespace liger::server {

using liger::worker::v1::CoordinatorMessage;

liger::worker::v1::Lease ToProto(const LeaseTerms& terms) {
  liger::worker::v1::Lease lease;
  lease.set_heartbeat_seconds(absl::ToDoubleSeconds(terms.heartbeat));
  lease.set_fence_seconds(absl::ToDoubleSeconds(terms.fence));
  lease.set_reassign_seconds(absl::ToDoubleSeconds(terms.reassign));
  lease.set_orphan_timeout_seconds(absl::ToDoubleSeconds(terms.orphan_timeout));
  return lease;
}

CoordinatorMessage PrepareMessage(const TaskStart& start, absl::Duration deadline) {
  CoordinatorMessage message;
  liger::worker::v1::Prepare* prepare = message.mutable_prepare();
  *prepare->mutable_ref() = start.ref;
  prepare->set_kind(start.kind);
  *prepare->mutable_gang() = start.gang;
  prepare->mutable_local_ranks()->Assign(start.local_ranks.begin(), start.local_ranks.end());
  prepare->set_deadline_seconds(absl::ToDoubleSeconds(deadline));
  return message;
}

CoordinatorMessage StartMessage(const TaskStart& start, const liger::worker::v1::Master& master) {
  CoordinatorMessage message;
  liger::worker::v1::Start* command = message.mutable_start();
  *command->mutable_ref() = start.ref;
  *command->mutable_master() = master;
  *command->mutable_resolved_spec() = start.resolved_spec;
  command->set_spec_hash(start.spec_hash);
  command->set_resume_from(start.resume_from);
  command->set_check_max_rows(start.check_max_rows);
  command->set_check_seconds(start.check_seconds);
  return message;
}

CoordinatorMessage StopMessage(const liger::trainer::v1::Ref& ref, double grace_seconds,
                               const std::string& reason) {
  CoordinatorMessage message;
  liger::worker::v1::Control* control = message.mutable_control();
  *control->mutable_ref() = ref;
  control->mutable_command()->set_command_id(
      absl::StrCat("stop-", ref.job_uid(), "-", ref.epoch(), "-", ref.task_id()));
  control->mutable_command()->mutable_stop()->set_grace_seconds(grace_seconds);
  control->mutable_command()->mutable_stop()->set_reason(reason);
  return message;
}

CoordinatorMessage PauseMessage(const liger::trainer::v1::Ref& ref) {
  CoordinatorMessage message;
  liger::worker::v1::Control* control = message.mutable_control();
  *control->mutable_ref() = ref;
  // One for an attempt: it may be sent any number of times.
  control->mutable_command()->set_command_id(
      absl::StrCat("pause-", ref.job_uid(), "-", ref.epoch()));
  control->mutable_command()->mutable_pause();
  return message;
}

CoordinatorMessage AbortMessage(const liger::trainer::v1::Ref& ref) {
  CoordinatorMessage message;
  *message.mutable_abort()->mutable_ref() = ref;
  return message;
}

CoordinatorMessage ReclaimMessage(const std::vector<ReclaimRow>& outputs) {
  CoordinatorMessage message;
  for (const ReclaimRow& row : outputs) {
    liger::worker::v1::PublishedOutput* output = message.mutable_reclaim()->add_outputs();
    output->set_uri(row.uri);
    output->set_manifest_digest(row.digest);
  }
  return message;
}

std::vector<ReclaimRow> FromProto(const std::string& worker_id,
                                  const liger::worker::v1::Reclaimed& reclaimed) {
  std::vector<ReclaimRow> rows;
  for (const liger::worker::v1::PublishedOutput& output : reclaimed.outputs()) {
    rows.push_back({worker_id, output.uri(), output.manifest_digest()});
  }
  return rows;
}

CoordinatorMessage PublishMessage(const PublishAnswer& answer) {
  CoordinatorMessage message;
  if (answer.granted) {
    liger::worker::v1::PublishGranted* granted = message.mutable_publish_granted();
    *granted->mutable_ref() = answer.ref;
    granted->set_publication_id(answer.publication_id);
    granted->set_output_uri(answer.output_uri);
    granted->mutable_replaces()->Assign(answer.replaces.begin(), answer.replaces.end());
  } else {
    liger::worker::v1::PublishDenied* denied = message.mutable_publish_denied();
    *denied->mutable_ref() = answer.ref;
    denied->set_publication_id(answer.publication_id);
    denied->set_reason(answer.denied_reason);
  }
  return message;
}

}  // namespace liger::server
