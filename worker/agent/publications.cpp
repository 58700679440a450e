#include "worker/agent/publications.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/agent/log.h"
#include "worker/agent/publisher.h"
#include "worker/agent/steady_time.h"
#include "worker/agent/task_runner.h"

namespace liger::agent {

Publications::Publications(const Services& services, Spool& spool, trainer::v1::Ref ref,
                           std::string attempt_dir, bool overwrite)
    : services_(services),
      spool_(spool),
      ref_(std::move(ref)),
      attempt_dir_(std::move(attempt_dir)),
      overwrite_(overwrite) {}

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
  storage_error_ = absl::StrCat("the saved result is damaged: ", status.message());
  Settle(saved.publication_id(), storage_error_);
}

void Publications::Granted(const worker::v1::PublishGranted& granted) {
  const std::string& id = granted.publication_id();
  auto request = spool_.requested().find(id);
  if (request == spool_.requested().end() || Settled(id)) return;
  // Asked again after the next Welcome, when the lease is back.
  if (services_.lease->Fenced(SteadyNow())) return;
  if (!publishing_.insert(id).second) return;
  const trainer::v1::Saved& saved = request->second.publish_request().saved();
  Publication publication{SourceDir(saved), saved.manifest_digest(), granted.output_uri(),
                          overwrite_};
  services_.publish_thread->Run(
      [services = &services_, key = TaskKey(ref_), id, publication = std::move(publication)] {
        absl::Status status = Publish(publication, *services->output_root,
                                      [services] { return !services->lease->Fenced(SteadyNow()); });
        services->post_to_task(key, [id, uri = publication.output_uri, status](TaskRunner& task) {
          task.publications().OnPublished(id, uri, status);
        });
      });
}

void Publications::OnPublished(const std::string& id, const std::string& output_uri,
                               absl::Status status) {
  publishing_.erase(id);
  if (absl::IsFailedPrecondition(status)) {
    LogWarning("publication ", id, " waits: ", status.message());
    return;
  }
  if (!status.ok()) storage_error_ = std::string(status.message());
  Settle(id, status.ok() ? "" : std::string(status.message()), output_uri);
}

void Publications::Denied(const worker::v1::PublishDenied& denied) {
  const std::string& id = denied.publication_id();
  if (!spool_.requested().contains(id) || Settled(id) || publishing_.contains(id)) return;
  Settle(id, absl::StrCat("denied: ", denied.reason()));
}

void Publications::GiveUp(const std::string& reason) {
  for (const auto& [id, request] : spool_.requested()) {
    if (!Settled(id) && !publishing_.contains(id)) Settle(id, reason);
  }
}

void Publications::Settle(const std::string& id, const std::string& error,
                          const std::string& output_uri) {
  LogInfo("task ", TaskKey(ref_), ": publication ", id,
          error.empty() ? absl::StrCat(" is at ", output_uri) : absl::StrCat(": ", error));
  worker::v1::PublicationOutcome outcome;
  outcome.set_publication_id(id);
  outcome.set_error(error);
  outcome.set_output_uri(output_uri);
  if (absl::Status s = spool_.RecordPublication(outcome); !s.ok()) LogError(s.ToString());
}

std::vector<worker::v1::TaskEvent> Publications::Unanswered() const {
  std::vector<worker::v1::TaskEvent> events;
  for (const auto& [id, request] : spool_.requested()) {
    if (!Settled(id) && !publishing_.contains(id)) events.push_back(request);
  }
  return events;
}

bool Publications::AllSettled() const {
  return publishing_.empty() &&
         std::all_of(spool_.requested().begin(), spool_.requested().end(),
                     [this](const auto& request) { return Settled(request.first); });
}

bool Publications::any_unpublished() const {
  return std::any_of(spool_.outcomes().begin(), spool_.outcomes().end(),
                     [](const auto& outcome) { return !outcome.second.error().empty(); });
}

}  // namespace liger::agent
