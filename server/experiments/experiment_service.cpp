#include "server/experiments/experiment_service.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/file.h"
#include "common/spec/spec.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/errors/errors.h"
#include "server/experiments/arm_checks.h"
#include "server/experiments/expand.h"
#include "server/experiments/experiment_loop.h"

namespace liger::server {
namespace {

using liger::v1::CreateExperimentResponse;
using liger::v1::Experiment;
using liger::v1::ExperimentSpec;
using liger::v1::Violation;

constexpr int64_t kRequestLifetimeUs = 7ll * 24 * 3600 * 1000000;

std::string BodyHash(const ExperimentSpec& spec) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    spec.SerializeToCodedStream(&coded);
  }
  return Sha256(bytes);
}

// Points with one spec: "1e-3" and "0.001". What they are is in the jobs' labels.
class Duplicates {
 public:
  // A job of the experiment as resolved; adds what is wrong.
  void Check(const liger::v1::JobSpec& job, int point, const std::string& hash,
             std::vector<Violation>* violations) {
    const std::pair<int, std::string> key(job.kernels().mode(), hash);
    const auto [known, first] = seen_.try_emplace(key, point, LabelOf(job));
    const auto& [other, label] = known->second;
    if (first || other == point || !said_.insert({other, point}).second) return;
    Violation& violation = violations->emplace_back();
    violation.set_field("grid");
    violation.set_message(
        absl::StrCat("'", label, "' and '", LabelOf(job), "' are the same job; keep one"));
  }

 private:
  static std::string LabelOf(const liger::v1::JobSpec& job) {
    const auto label = job.labels().find(kPointLabel);
    return label == job.labels().end() ? "" : label->second;
  }

  std::map<std::pair<int, std::string>, std::pair<int, std::string>> seen_;
  std::set<std::pair<int, int>> said_;
};

}  // namespace

ExperimentService::ExperimentService(Store* store, JobService* jobs,
                                     const JobServiceOptions& options, Listener changed)
    : store_(*store),
      jobs_(*jobs),
      options_(options),
      loop_(std::make_shared<ExperimentLoop>(store, jobs, options.clock, std::move(changed))) {}
ExperimentService::~ExperimentService() { Stop(); }

int64_t ExperimentService::NowUs() const { return absl::ToUnixMicros(options_.clock->Now()); }

absl::StatusOr<CreateExperimentResponse> ExperimentService::Prepare(
    const ExperimentSpec& given) const {
  std::vector<Violation> violations = ValidateExperiment(given);
  if (!violations.empty()) return InvalidArgument(violations);
  ExperimentSpec spec = given;
  FillExperimentDefaults(&spec);
  CreateExperimentResponse response;
  Experiment& experiment = *response.mutable_experiment();
  experiment = Expand(spec, options_.new_id());
  std::set<std::string> notices;
  Duplicates duplicates;
  for (liger::v1::ExperimentJob& job : *experiment.mutable_jobs()) {
    const liger::v1::ExperimentPoint& point = experiment.points(job.point());
    const absl::StatusOr<liger::v1::JobSpec> job_spec = JobSpecOf(experiment, job);
    if (!job_spec.ok()) return InvalidArgument("grid", job_spec.status().message());
    const absl::StatusOr<ResolvedSpec> resolved = jobs_.Resolve(*job_spec);
    if (!resolved.ok()) {
      const std::vector<Violation> found = ViolationsOf(resolved.status());
      if (found.empty()) return resolved.status();
      AddViolations(found, experiment, point, &violations);
      continue;
    }
    job.set_spec_hash(resolved->hash);
    duplicates.Check(*job_spec, job.point(), resolved->hash, &violations);
    const auto note = [&](const std::string& notice) {
      if (notices.insert(notice).second) response.add_notices(notice);
    };
    std::ranges::for_each(resolved->notices, note);
    for (const auto& warning : resolved->warnings) note(warning.message());
    // One device kind for all, whatever workers come and go.
    experiment.mutable_spec()->mutable_job()->mutable_resources()->set_device_kind(
        resolved->spec.resources().device_kind());
  }
  if (!violations.empty()) return InvalidArgument(violations);
  return response;
}

void ExperimentService::Create(CreateCall call, CreateDone done) {
  absl::StatusOr<CreateExperimentResponse> prepared = Prepare(call.spec);
  if (!prepared.ok()) return done(prepared.status());
  CreateExperiment command;
  command.row.uid = prepared->experiment().uid();
  command.row.tenant = call.tenant;
  command.row.name = call.spec.name();
  command.row.experiment = prepared->experiment();
  command.row.experiment.set_tenant(call.tenant);
  command.request_id = call.request_id;
  command.body_hash = BodyHash(call.spec);
  command.request_expires_us = NowUs() + kRequestLifetimeUs;
  store_.Apply<CreateExperiment>(
      NowUs(), call.actor, std::move(command),
      [loop = loop_, response = *std::move(prepared),
       done = std::move(done)](absl::StatusOr<CreateExperiment::Result> result) mutable {
        if (!result.ok()) return done(result.status());
        *response.mutable_experiment() = std::move(result->experiment);
        done(std::move(response));
        loop->Request();
      });
}

std::function<void()> ExperimentService::Validate(CreateCall call, CreateDone done) {
  absl::StatusOr<CreateExperimentResponse> prepared = Prepare(call.spec);
  if (!prepared.ok()) {
    done(prepared.status());
    return [] {};
  }
  auto checked = [store = &store_, tenant = call.tenant, name = call.spec.name(),
                  done = std::move(done)](absl::StatusOr<CreateExperimentResponse> response) {
    if (!response.ok()) return done(response.status());
    response->mutable_experiment()->clear_uid();
    store->Read<CreateExperimentResponse>(
        [tenant, name, response = *std::move(response)](
            const ReadView& view) -> absl::StatusOr<CreateExperimentResponse> {
          const absl::Status free = CheckNewExperiment(view, tenant, name);
          if (!free.ok()) return free;
          return response;
        },
        done);
  };
  const auto checks = std::make_shared<ArmChecks>(&jobs_, options_.clock, call.tenant, call.actor,
                                                  *std::move(prepared), std::move(checked));
  return checks->Begin();
}

void ExperimentService::Cancel(const std::string& tenant, const std::string& actor,
                               const std::string& experiment, const std::string& reason,
                               std::function<void(absl::StatusOr<Experiment>)> done) {
  store_.Apply<CancelExperiment>(
      NowUs(), actor, {tenant, experiment, reason},
      [loop = loop_, done = std::move(done)](absl::StatusOr<CancelExperiment::Result> result) {
        if (!result.ok()) return done(result.status());
        done(std::move(result->experiment));
        loop->Request();
      });
}

void ExperimentService::Delete(
    const std::string& tenant, const std::string& actor, const std::string& experiment,
    std::function<void(absl::StatusOr<liger::v1::DeleteExperimentResponse>)> done) {
  store_.Apply<DeleteExperiment>(NowUs(), actor, {tenant, experiment},
                                 [loop = loop_, done = std::move(done)](
                                     const absl::StatusOr<DeleteExperiment::Result>& result) {
                                   if (!result.ok()) return done(result.status());
                                   done(liger::v1::DeleteExperimentResponse());
                                   loop->Request();
                                 });
}

void ExperimentService::Tick() { loop_->Tick(); }
void ExperimentService::Stop() { loop_->Stop(); }

}  // namespace liger::server
