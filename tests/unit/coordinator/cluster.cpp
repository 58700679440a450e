#include "tests/unit/coordinator/cluster.h"

#include <stdlib.h>

#include <filesystem>
#include <utility>

#include "absl/time/clock.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "server/api/status.h"

namespace liger::testing {
namespace {

std::string NewFolder() {
  std::string path = ::testing::TempDir() + "/coordinator-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) ADD_FAILURE() << "cannot make " << path;
  return path;
}

template <typename Response, typename Call>
absl::StatusOr<Response> Unary(Call call) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
  Response response;
  const absl::Status status = liger::server::FromGrpc(call(&context, &response));
  if (!status.ok()) return status;
  return response;
}

}  // namespace

Cluster::Cluster(const std::function<void(Options*)>& change) {
  options_.data_dir = NewFolder();
  options_.listen = options_.worker_listen = "127.0.0.1:0";
  options_.metrics_listen = "";  // its server takes 2 s to stop
  options_.lease = {absl::Milliseconds(100), absl::Milliseconds(500), absl::Milliseconds(800),
                    absl::Seconds(5)};
  options_.prepare_timeout = absl::Milliseconds(500);
  options_.metrics_flush_interval = absl::Milliseconds(100);
  options_.jobs.refusal_backoff_seconds = 0.1;
  options_.jobs.progress_interval_seconds = 0;
  options_.jobs.validate_timeout_seconds = 3;
  if (change) change(&options_);
  StartCoordinator();
}

Cluster::~Cluster() {
  StopCoordinator();
  std::filesystem::remove_all(options_.data_dir);
}

void Cluster::StopCoordinator() {
  api_.reset();
  coordinator_.reset();
}

void Cluster::StartCoordinator() {
  auto started = liger::server::Coordinator::Start(options_);
  ASSERT_TRUE(started.ok()) << started.status();
  coordinator_ = *std::move(started);
  api_ = liger::v1::FineTuning::NewStub(
      grpc::CreateChannel(coordinator_->api_address(), grpc::InsecureChannelCredentials()));
}

std::unique_ptr<FakeWorker> Cluster::MakeWorker(FakeWorkerOptions options) {
  return std::make_unique<FakeWorker>(coordinator_->worker_address(), std::move(options));
}

absl::StatusOr<liger::v1::CreateJobResponse> Cluster::Create(
    const liger::v1::CreateJobRequest& request) {
  return Unary<liger::v1::CreateJobResponse>([&](grpc::ClientContext* context, auto* response) {
    return api_->CreateJob(context, request, response);
  });
}

absl::StatusOr<liger::v1::Job> Cluster::Submit(const std::string& name) {
  liger::v1::CreateJobRequest request;
  *request.mutable_spec() = TinySpec(name);
  const auto response = Create(request);
  if (!response.ok()) return response.status();
  return response->job();
}

absl::StatusOr<liger::v1::Job> Cluster::Get(const std::string& job) {
  liger::v1::GetJobRequest request;
  request.set_job(job);
  return Unary<liger::v1::Job>([&](grpc::ClientContext* context, auto* response) {
    return api_->GetJob(context, request, response);
  });
}

absl::StatusOr<liger::v1::Job> Cluster::Cancel(const std::string& job,
                                              const std::string& reason) {
  liger::v1::CancelJobRequest request;
  request.set_job(job);
  request.set_reason(reason);
  return Unary<liger::v1::Job>([&](grpc::ClientContext* context, auto* response) {
    return api_->CancelJob(context, request, response);
  });
}

absl::StatusOr<liger::v1::Job> Cluster::Pause(const std::string& job, const std::string& reason) {
  liger::v1::PauseJobRequest request;
  request.set_job(job);
  request.set_reason(reason);
  return Unary<liger::v1::Job>([&](grpc::ClientContext* context, auto* response) {
    return api_->PauseJob(context, request, response);
  });
}

absl::StatusOr<liger::v1::Job> Cluster::Resume(const std::string& job) {
  liger::v1::ResumeJobRequest request;
  request.set_job(job);
  return Unary<liger::v1::Job>([&](grpc::ClientContext* context, auto* response) {
    return api_->ResumeJob(context, request, response);
  });
}

absl::Status Cluster::Delete(const std::string& job) {
  liger::v1::DeleteJobRequest request;
  request.set_job(job);
  return Unary<liger::v1::DeleteJobResponse>([&](grpc::ClientContext* context, auto* response) {
           return api_->DeleteJob(context, request, response);
         })
      .status();
}

liger::v1::Job Cluster::WaitFor(const std::string& job, liger::v1::JobStatus::State state,
                                absl::Duration timeout) {
  return WaitUntil(
      job, [state](const liger::v1::Job& j) { return j.status().state() == state; }, timeout);
}

liger::v1::Job Cluster::WaitUntil(const std::string& job,
                                  const std::function<bool(const liger::v1::Job&)>& holds,
                                  absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  absl::StatusOr<liger::v1::Job> last;
  while (true) {
    last = Get(job);
    if (last.ok() && holds(*last)) return *last;
    if (absl::Now() > deadline) break;
    absl::SleepFor(absl::Milliseconds(10));
  }
  ADD_FAILURE() << job << " is not what it was waited for: "
                << (last.ok() ? last->status().ShortDebugString() : last.status().ToString());
  return last.ok() ? *last : liger::v1::Job();
}

liger::v1::JobSpec TinySpec(const std::string& name) {
  liger::v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_model()->set_name("models/tiny");
  spec.mutable_dataset()->set_name("data/tiny.jsonl");
  spec.mutable_sft();
  spec.mutable_resources()->set_device_kind(liger::v1::DEVICE_KIND_CPU);
  return spec;
}

}  // namespace liger::testing
