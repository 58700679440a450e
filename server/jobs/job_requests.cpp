// What users ask.

#include <set>
#include <utility>

#include "common/file.h"
#include "common/spec/spec.h"
#include "common/spec/violations.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/errors/errors.h"
#include "server/jobs/job_service_impl.h"
#include "server/store/outputs.h"

namespace liger::server {
namespace {

constexpr int64_t kRequestLifetimeUs = 7 * 24 * 3600 * kSecondUs;
// A worker that has just said Hello may still be looking at its disks.
constexpr int64_t kInventorySettleUs = 5 * kSecondUs;
constexpr int kNameSuffixLength = 6;
// For a scan of roots on a slow network file system.
constexpr int64_t kLookPatienceUs = 10 * kSecondUs;

}  // namespace

std::string BodyHash(const liger::v1::JobSpec& spec) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    spec.SerializeToCodedStream(&coded);
  }
  return Sha256(bytes);
}

absl::StatusOr<ResolvedSpec> JobService::Impl::Resolve(const liger::v1::JobSpec& spec) const {
  absl::StatusOr<ResolvedSpec> resolved =
      ResolveSpec(spec, catalog_, workers_.Workers(), RandomSuffix(kNameSuffixLength));
  if (!resolved.ok()) return resolved;
  const absl::Status present = CheckPresence(*resolved);
  if (!present.ok()) return present;
  return resolved;
}

ScheduleSnapshot JobService::Impl::CheckSnapshot(const std::string& uid,
                                                 const ResolvedSpec& resolved) const {
  ScheduleSnapshot snapshot;
  JobRow& job = snapshot.jobs.emplace_back();
  job.uid = uid;
  job.state = liger::v1::JobStatus::VALIDATING;
  job.resolved_spec = resolved.spec;
  snapshot.workers = workers_.Workers();
  snapshot.catalog_uris = catalog_.uris();
  return snapshot;
}

absl::Status JobService::Impl::CheckPresence(const ResolvedSpec& resolved) const {
  if (!workers_.InventoryIsKnown(SteadyUs(), kInventorySettleUs)) return absl::OkStatus();
  for (const WaitDecision& wait : Schedule(CheckSnapshot("", resolved)).waits) {
    const bool model = wait.reason == "ModelAbsent";
    if (!model && wait.reason != "DatasetAbsent") continue;
    return InvalidArgument(model ? "model.name" : "dataset.name",
                           WithAction(wait.message, wait.action));
  }
  return absl::OkStatus();
}

void JobService::Impl::Submit(SubmitRequest request, SubmitDone done) {
  absl::StatusOr<ResolvedSpec> resolved = Resolve(request.spec);
  if (resolved.ok()) return Create(std::move(request), *std::move(resolved), std::move(done));
  // What a retry says stays the same, whatever became of the fleet (I2).
  if (request.request_id.empty()) return done(resolved.status());
  AnswerEarlier(request, resolved.status(), std::move(done));
}

void JobService::Impl::AnswerEarlier(const SubmitRequest& request, const absl::Status& error,
                                     SubmitDone done) {
  store_.Read<SubmitResult>(
      [tenant = request.tenant, id = request.request_id, hash = BodyHash(request.spec),
       now = NowUs(), error](const ReadView& view) -> absl::StatusOr<SubmitResult> {
        const absl::StatusOr<std::optional<JobRow>> earlier =
            EarlierJob(view, tenant, id, hash, now);
        if (!earlier.ok()) return earlier.status();
        if (!earlier->has_value()) return error;
        return SubmitResult{.job = ToProto(view, **earlier)};
      },
      std::move(done));
}

void JobService::Impl::Create(SubmitRequest request, ResolvedSpec resolved, SubmitDone done) {
  CreateJob command;
  command.job.uid = options_.new_id();
  command.job.tenant = request.tenant;
  command.job.name = resolved.spec.name();
  command.job.method = MethodName(resolved.spec);
  command.job.model = request.spec.model().name().empty() ? request.spec.model().uri()
                                                          : request.spec.model().name();
  command.job.spec = request.spec;
  command.job.resolved_spec = resolved.spec;
  command.job.spec_hash = resolved.hash;
  command.job.hash_version = kSpecHashVersion;
  command.request_id = request.request_id;
  command.body_hash = BodyHash(request.spec);
  command.request_expires_us = NowUs() + kRequestLifetimeUs;
  store_.Apply<CreateJob>(NowUs(), request.actor, std::move(command),
                          [self = shared_from_this(), notices = std::move(resolved.notices),
                           warnings = std::move(resolved.warnings),
                           done = std::move(done)](absl::StatusOr<CreateJob::Result> created) {
                            if (!created.ok()) return done(created.status());
                            SubmitResult result;
                            result.job = std::move(created->job);
                            result.notices = notices;
                            result.warnings = warnings;
                            done(std::move(result));
                            self->loop_->Request();
                          });
}

void JobService::Impl::Look(JobService::LookDone done) {
  std::set<std::string> workers;
  fleet_.Call([&](FleetPort& fleet) {
    for (const WorkerRow& worker : workers_.Workers()) {
      if (fleet.IsConnected(worker.worker_id)) workers.insert(worker.worker_id);
    }
  });
  const int64_t id = looks_.Add(
      workers, NowUs(), SteadyUs() + kLookPatienceUs,
      [self = shared_from_this(), workers,
       done = std::move(done)](const std::set<std::string>& answered) {
        std::vector<WorkerRow> asked = self->workers_.Workers();
        std::erase_if(asked,
                      [&](const WorkerRow& row) { return !workers.contains(row.worker_id); });
        done(std::move(asked), answered);
      });
  fleet_.Call([&](FleetPort& fleet) {
    for (const std::string& worker : workers) fleet.Look(worker, id);
  });
}

void JobService::Impl::Cancel(CancelJob command, const std::string& actor, JobDone done) {
  store_.Apply<CancelJob>(
      NowUs(), actor, std::move(command),
      [self = shared_from_this(),
       done = std::move(done)](absl::StatusOr<CancelJob::Result> result) {
        if (!result.ok()) return done(result.status());
        const liger::v1::JobStatus& status = result->job.status();
        if (status.state() == liger::v1::JobStatus::CANCELLING) {
          absl::MutexLock lock(&self->mutex_);
          // A second cancel does not move it.
          self->cancel_deadlines_.try_emplace(
              {result->job.uid(), status.epoch()},
              self->SteadyUs() +
                  static_cast<int64_t>(self->options_.cancel_deadline_seconds * kSecondUs));
        }
        self->StopTasks(result->stops, "CANCELLED");
        done(std::move(result->job));
        self->loop_->Request();
      });
}

void JobService::Impl::Pause(PauseJob command, const std::string& actor, JobDone done) {
  store_.Apply<PauseJob>(NowUs(), actor, std::move(command),
                         [self = shared_from_this(),
                          done = std::move(done)](absl::StatusOr<PauseJob::Result> result) {
                           if (!result.ok()) return done(result.status());
                           self->PauseTasks(result->pauses);
                           done(std::move(result->job));
                           self->loop_->Request();
                         });
}

void JobService::Impl::Resume(ResumeJob command, const std::string& actor, JobDone done) {
  store_.Apply<ResumeJob>(NowUs(), actor, std::move(command),
                          [self = shared_from_this(),
                           done = std::move(done)](absl::StatusOr<ResumeJob::Result> result) {
                            if (!result.ok()) return done(result.status());
                            done(std::move(result->job));
                            self->loop_->Request();
                          });
}

// A worker that is away is asked after its next Hello.
void JobService::Impl::Reclaim(const std::vector<ReclaimRow>& outputs) {
  for (const ReclaimRow& output : outputs) {
    fleet_.Call([&output](FleetPort& fleet) { fleet.Reclaim(output.worker_id, {output}); });
  }
}

void JobService::Impl::Delete(DeleteJob command, const std::string& actor,
                              std::function<void(absl::StatusOr<DeleteJob::Result>)> done) {
  store_.Apply<DeleteJob>(NowUs(), actor, std::move(command),
                          [self = shared_from_this(),
                           done = std::move(done)](absl::StatusOr<DeleteJob::Result> result) {
                            if (result.ok()) self->Reclaim(result->reclaims);
                            done(std::move(result));
                          });
}

}  // namespace liger::server
