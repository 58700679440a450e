#include "worker/agent/publications.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/checkpoints.h"
#include "worker/agent/log.h"
#include "worker/agent/steady_time.h"
#include "worker/agent/task_runner.h"

namespace liger::agent {

Publications::Publications(const Services& services, Spool& spool, trainer::v1::Ref ref,
                           std::string attempt_dir, v1::OutputSpec output)
    : services_(services),
      spool_(spool),
      ref_(std::move(ref)),
      attempt_dir_(std::move(attempt_dir)),
      output_(std::move(output)) {}

// The trainer names a folder below its own; a name that leaves it is refused by
// leading nowhere.
std::string Publications::SourceDir(const trainer::v1::Saved& saved) const {
  const std::filesystem::path base(attempt_dir_);
  const auto dir = (base / saved.dir()).lexically_normal();
  const auto relative = dir.lexically_relative(base);
  const bool below = !relative.empty() && *relative.begin() != "..";
  return below ? dir.string() : (base / "outside-of-the-attempt").string();
}

void Publications::Verify(const trainer::v1::Saved& saved) {
  if (!verifying_.insert(saved.publication_id()).second) return;
  services_.publish_thread->Run([post = services_.post_to_task, key = TaskKey(ref_), saved,
                                 dir = SourceDir(saved)] {
    const absl::Status status = VerifyManifest(dir, saved.manifest_digest());
    post(key, [saved, status](TaskRunner& task) { task.publications().OnVerified(saved, status); });
  });
}

void Publications::OnVerified(const trainer::v1::Saved& saved, const absl::Status& status) {
  verified_.insert(saved.publication_id());
  if (status.ok()) return;
  worker::v1::PublicationOutcome outcome;
  outcome.set_publication_id(saved.publication_id());
  outcome.set_error(absl::StrCat("the saved result is damaged: ", status.message()));
  outcome.set_storage(true);
  Settle(outcome);
}

Publication Publications::MakePublication(const std::string& id,
                                          const worker::v1::PublishGranted& granted) const {
  const trainer::v1::Saved& saved = spool_.requested().at(id).publish_request().saved();
  // An earlier attempt's checkpoint of the same step may lie there.
  const bool overwrite = output_.overwrite() || IsCheckpointKind(saved.kind());
  return {SourceDir(saved),
          saved.manifest_digest(),
          granted.output_uri(),
          overwrite,
          {granted.replaces().begin(), granted.replaces().end()}};
}

void Publications::Tick(absl::Time now) {
  for (const auto& outcome : std::exchange(untold_, {})) Tell(outcome);
  if (interrupted_.empty() || services_.lease->Fenced(now)) return;
  for (const auto& [id, granted] : std::exchange(interrupted_, {})) Granted(granted);
}

void Publications::Granted(const worker::v1::PublishGranted& granted) {
  const std::string& id = granted.publication_id();
  if (!spool_.requested().contains(id) || Settled(id) || !revoked_.empty()) return;
  if (services_.lease->Fenced(SteadyNow())) {
    interrupted_[id] = granted;  // Tick takes it up when the lease is back
    return;
  }
  if (!publishing_.insert(id).second) return;
  services_.publish_thread->Run([services = &services_, key = TaskKey(ref_), granted,
                                 stopped = stopped_, publication = MakePublication(id, granted)] {
    const auto result = Publish(publication, *services->output_root, [services, stopped] {
      return !stopped->load() && !services->lease->Fenced(SteadyNow());
    });
    services->post_to_task(key, [granted, result](TaskRunner& task) {
      task.publications().OnPublished(granted, result);
    });
  });
}

void Publications::OnPublished(const worker::v1::PublishGranted& granted,
                               const absl::StatusOr<PublishResult>& result) {
  const std::string& id = granted.publication_id();
  publishing_.erase(id);
  if (result.ok() && *result == PublishResult::kLeaseOver) {
    if (!revoked_.empty()) return Drop(id, revoked_);
    LogWarning("task ", TaskKey(ref_), ": publication ", id, " waits for a new lease");
    interrupted_[id] = granted;
    return;
  }
  worker::v1::PublicationOutcome outcome;
  outcome.set_publication_id(id);
  outcome.set_output_uri(granted.output_uri());
  outcome.set_error(std::string(result.status().message()));
  outcome.set_storage(!result.ok());
  Settle(outcome);
}

void Publications::Denied(const worker::v1::PublishDenied& denied) {
  const std::string& id = denied.publication_id();
  if (!spool_.requested().contains(id) || Settled(id) || publishing_.contains(id)) return;
  Drop(id, absl::StrCat("denied: ", denied.reason()));
}

void Publications::GiveUp(const std::string& reason) {
  for (const auto& [id, request] : spool_.requested()) {
    if (!Settled(id) && !publishing_.contains(id)) Drop(id, reason);
  }
}

void Publications::Revoke(const std::string& reason) {
  revoked_ = reason;
  stopped_->store(true);
  GiveUp(reason);
}

void Publications::Drop(const std::string& id, const std::string& reason) {
  // An earlier agent may have been killed while it published.
  const auto interrupted = interrupted_.extract(id);
  worker::v1::PublishGranted granted;
  granted.set_output_uri(interrupted ? interrupted.mapped().output_uri() : output_.uri());
  services_.publish_thread->Run(
      [root = services_.output_root, publication = MakePublication(id, granted)] {
        ClearStaging(publication, *root);
      });
  worker::v1::PublicationOutcome outcome;
  outcome.set_publication_id(id);
  outcome.set_error(reason);
  Settle(outcome);
}

void Publications::Settle(const worker::v1::PublicationOutcome& outcome) {
  LogInfo("task ", TaskKey(ref_), ": publication ", outcome.publication_id(),
          outcome.error().empty() ? absl::StrCat(" is at ", outcome.output_uri())
                                  : absl::StrCat(": ", outcome.error()));
  Tell(outcome);
  if (!untold_.empty()) LogError("task ", TaskKey(ref_), ": the spool has no room for it");
}

void Publications::Tell(const worker::v1::PublicationOutcome& outcome) {
  if (spool_.exited()) return;  // which has told it
  if (!spool_.RecordPublication(outcome, ref_).ok()) untold_.push_back(outcome);
}

std::vector<worker::v1::TaskEvent> Publications::AskAgain() {
  interrupted_.clear();
  std::vector<worker::v1::TaskEvent> events;
  for (const auto& [id, request] : spool_.requested()) {
    if (!Settled(id) && !publishing_.contains(id)) events.push_back(request);
  }
  // As they were sent first: the coordinator takes one behind a later one for a repetition.
  std::ranges::sort(events, {}, &worker::v1::TaskEvent::seq);
  return events;
}

bool Publications::AllSettled() const {
  return publishing_.empty() &&
         std::all_of(spool_.requested().begin(), spool_.requested().end(),
                     [this](const auto& request) { return Settled(request.first); });
}

std::string Publications::storage_error() const {
  for (const auto& [id, outcome] : spool_.outcomes()) {
    // A job goes on without a checkpoint, not without its model.
    if (outcome.storage() && !CheckpointStep(id).has_value()) return outcome.error();
  }
  return "";
}

std::vector<std::string> Publications::Unpublished() const {
  std::vector<std::string> ids;
  for (const auto& [id, outcome] : spool_.outcomes()) {
    if (!outcome.error().empty()) ids.push_back(id);
  }
  return ids;
}

}  // namespace liger::agent
