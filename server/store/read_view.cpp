#include "server/store/read_view.h"

#include "absl/strings/str_cat.h"
#include "server/errors/errors.h"

namespace liger::server {
namespace {

liger::v1::Attempt AttemptToProto(const ReadView& view, const AttemptRow& row) {
  liger::v1::Attempt attempt;
  attempt.set_epoch(row.epoch);
  attempt.set_state(AttemptStateName(row.state));
  attempt.set_detail(row.detail);
  *attempt.mutable_start_time() = ToTimestamp(row.started_us);
  if (row.ended_us != 0) *attempt.mutable_end_time() = ToTimestamp(row.ended_us);
  for (const MemberRow& member : view.Members(row.job_uid, row.epoch)) {
    if (member.node_rank == 0) attempt.set_worker_id(member.worker_id);
    for (const std::string& uuid : member.device_uuids) attempt.add_device_uuids(uuid);
    liger::v1::AttemptMember* shown = attempt.add_members();
    shown->set_worker_id(member.worker_id);
    shown->mutable_ranks()->Assign(member.ranks.begin(), member.ranks.end());
    shown->mutable_device_uuids()->Assign(member.device_uuids.begin(), member.device_uuids.end());
  }
  if (row.failure_class != liger::v1::FAILURE_CLASS_UNSPECIFIED) {
    attempt.set_failure_class(row.failure_class);
    if (row.first_failed_rank >= 0) attempt.set_first_failed_rank(row.first_failed_rank);
  }
  if (attempt.device_uuids_size() > 1) {
    if (const auto environment = view.Environment(row.job_uid, row.epoch)) {
      *attempt.mutable_communication() = environment->communication();
    }
  }
  return attempt;
}

}  // namespace

absl::StatusOr<JobRow> FindJob(const ReadView& view, const std::string& tenant,
                               const std::string& name_or_uid) {
  // By uid first: a program that holds a uid means that job, whatever others are named.
  std::optional<JobRow> job = view.Job(name_or_uid);
  if (job.has_value() && (job->tenant != tenant || job->deleted_us != 0)) job.reset();
  if (!job.has_value()) job = view.JobByName(tenant, name_or_uid);
  if (!view.status().ok()) return view.status();
  if (!job.has_value()) {
    return ErrorWithReason(
        absl::StatusCode::kNotFound, "JOB_NOT_FOUND",
        absl::StrCat("no job '", name_or_uid, "'; liger-cli list shows the jobs there are"),
        {{"job", name_or_uid}});
  }
  return *std::move(job);
}

absl::Status RequireAttempt(const ReadView& view, const JobRow& job, int64_t epoch) {
  if (epoch == 0 || view.Attempt(job.uid, epoch).has_value()) return absl::OkStatus();
  return ErrorWithReason(absl::StatusCode::kNotFound, "ATTEMPT_NOT_FOUND",
                         absl::StrCat("job '", job.name, "' has no attempt ", epoch));
}

absl::StatusOr<std::optional<std::string>> EarlierUid(
    const ReadView& view, const std::string& tenant, const std::string& method,
    const std::string& request_id, const std::string& body_hash, int64_t now_us) {
  if (request_id.empty()) return std::nullopt;
  const std::optional<RequestRow> request = view.Request(tenant, method, request_id);
  if (!request.has_value() || request->expires_us <= now_us) return std::nullopt;
  if (request->body_hash != body_hash) {
    return ErrorWithReason(
        absl::StatusCode::kAlreadyExists, "REQUEST_ID_REUSED",
        absl::StrCat("request_id '", request_id, "' was used with another request; use a new one"));
  }
  return request->job_uid;
}

absl::StatusOr<std::optional<JobRow>> EarlierJob(const ReadView& view, const std::string& tenant,
                                                 const std::string& request_id,
                                                 const std::string& body_hash, int64_t now_us) {
  const absl::StatusOr<std::optional<std::string>> uid =
      EarlierUid(view, tenant, kCreateMethod, request_id, body_hash, now_us);
  if (!uid.ok()) return uid.status();
  if (!uid->has_value()) return std::nullopt;
  std::optional<JobRow> job = view.Job(**uid);
  if (job.has_value() && job->deleted_us != 0) {
    return ErrorWithReason(absl::StatusCode::kAlreadyExists, "REQUEST_ID_REUSED",
                           absl::StrCat("request_id '", request_id, "' made the job '", job->name,
                                        "', which was deleted; use a new one"));
  }
  return job;
}

liger::v1::Job ToProto(const ReadView& view, const JobRow& row) {
  liger::v1::Job job;
  job.set_uid(row.uid);
  job.set_tenant(row.tenant);
  job.set_name(row.name);
  *job.mutable_spec() = row.spec;
  *job.mutable_resolved_spec() = row.resolved_spec;
  job.set_spec_hash(row.spec_hash);
  job.set_spec_hash_version(row.hash_version);
  *job.mutable_status() = row.status;
  job.mutable_status()->set_state(row.state);
  job.mutable_status()->set_reason(row.reason);
  job.mutable_status()->set_epoch(row.epoch);
  job.mutable_status()->set_restarts(row.restarts);
  for (const AttemptRow& attempt : view.Attempts(row.uid)) {
    *job.mutable_status()->add_attempts() = AttemptToProto(view, attempt);
  }
  *job.mutable_create_time() = ToTimestamp(row.created_us);
  if (row.started_us != 0) *job.mutable_start_time() = ToTimestamp(row.started_us);
  if (row.ended_us != 0) *job.mutable_end_time() = ToTimestamp(row.ended_us);
  job.set_revision(row.revision);
  return job;
}

liger::v1::Artifact ToProto(const ArtifactRow& row) {
  liger::v1::Artifact artifact;
  artifact.set_id(row.id);
  artifact.set_job_uid(row.job_uid);
  artifact.set_epoch(row.epoch);
  artifact.set_kind(row.kind);
  artifact.set_uri(row.uri);
  artifact.set_digest(row.digest);
  artifact.set_bytes(row.bytes);
  artifact.set_step(row.step);
  artifact.set_worker_id(row.worker_id);
  artifact.set_state(row.damage.empty() ? liger::v1::Artifact::AVAILABLE
                                        : liger::v1::Artifact::QUARANTINED);
  artifact.set_reason(row.damage);
  *artifact.mutable_create_time() = ToTimestamp(row.created_us);
  return artifact;
}

}  // namespace liger::server
