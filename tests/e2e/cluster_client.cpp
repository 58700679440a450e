#include "tests/e2e/cluster_client.h"

#include <gtest/gtest.h>

#include <chrono>

#include "absl/time/clock.h"
#include "grpcpp/create_channel.h"

namespace liger::e2e {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(50);
// How long a coordinator may be away in a test.
constexpr absl::Duration kAway = absl::Seconds(60);

}  // namespace

bool IsTerminal(v1::JobStatus::State state) {
  return state == v1::JobStatus::SUCCEEDED || state == v1::JobStatus::FAILED ||
         state == v1::JobStatus::CANCELLED;
}

ClusterClient::ClusterClient(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  // A coordinator that comes back is another server on the same address.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ = v1::FineTuning::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

void ClusterClient::MustCall(const char* name,
                             const std::function<grpc::Status(grpc::ClientContext*)>& call) {
  const absl::Time deadline = absl::Now() + kAway;
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    const grpc::Status status = call(&context);
    if (status.ok()) return;
    const bool away = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                      status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
    if (!away || absl::Now() > deadline) {
      ADD_FAILURE() << name << ": " << status.error_code() << " " << status.error_message();
      return;
    }
    absl::SleepFor(kPoll);
  }
}

grpc::Status ClusterClient::TryCreate(const v1::JobSpec& spec, v1::Job* job,
                                      const std::string& request_id) {
  v1::CreateJobRequest request;
  *request.mutable_spec() = spec;
  request.set_request_id(request_id);
  v1::CreateJobResponse response;
  grpc::ClientContext context;
  const grpc::Status status = stub_->CreateJob(&context, request, &response);
  *job = response.job();
  return status;
}

grpc::Status ClusterClient::TryValidate(const v1::JobSpec& spec) {
  v1::CreateJobRequest request;
  *request.mutable_spec() = spec;
  request.set_validate_only(true);
  v1::CreateJobResponse response;
  grpc::ClientContext context;
  return stub_->CreateJob(&context, request, &response);
}

v1::Job ClusterClient::Create(const v1::JobSpec& spec) {
  v1::CreateJobRequest request;
  *request.mutable_spec() = spec;
  v1::CreateJobResponse response;
  MustCall("CreateJob", [&](grpc::ClientContext* context) {
    return stub_->CreateJob(context, request, &response);
  });
  return response.job();
}

v1::Job ClusterClient::Get(const std::string& job) {
  v1::GetJobRequest request;
  request.set_job(job);
  v1::Job response;
  MustCall("GetJob", [&](grpc::ClientContext* context) {
    return stub_->GetJob(context, request, &response);
  });
  return response;
}

v1::Job ClusterClient::Cancel(const std::string& job) {
  v1::CancelJobRequest request;
  request.set_job(job);
  request.set_reason("a test");
  v1::Job response;
  MustCall("CancelJob", [&](grpc::ClientContext* context) {
    return stub_->CancelJob(context, request, &response);
  });
  return response;
}

v1::Job ClusterClient::Pause(const std::string& job) {
  v1::PauseJobRequest request;
  request.set_job(job);
  v1::Job response;
  MustCall("PauseJob", [&](grpc::ClientContext* context) {
    return stub_->PauseJob(context, request, &response);
  });
  return response;
}

v1::Job ClusterClient::Resume(const std::string& job) {
  v1::ResumeJobRequest request;
  request.set_job(job);
  v1::Job response;
  MustCall("ResumeJob", [&](grpc::ClientContext* context) {
    return stub_->ResumeJob(context, request, &response);
  });
  return response;
}

std::vector<v1::Worker> ClusterClient::Workers() {
  v1::ListWorkersResponse response;
  MustCall("ListWorkers", [&](grpc::ClientContext* context) {
    return stub_->ListWorkers(context, v1::ListWorkersRequest(), &response);
  });
  return {response.workers().begin(), response.workers().end()};
}

std::vector<v1::JobEvent> ClusterClient::Events(const std::string& job) {
  std::vector<v1::JobEvent> events;
  v1::ListEventsRequest request;
  request.set_job(job);
  v1::ListEventsResponse response;
  do {
    MustCall("ListEvents", [&](grpc::ClientContext* context) {
      return stub_->ListEvents(context, request, &response);
    });
    events.insert(events.end(), response.events().begin(), response.events().end());
    request.set_after_seq(response.next_after_seq());
  } while (response.next_after_seq() != 0);
  return events;
}

std::vector<v1::Artifact> ClusterClient::Artifacts(const std::string& job) {
  v1::ListArtifactsRequest request;
  request.set_job(job);
  v1::ListArtifactsResponse response;
  MustCall("ListArtifacts", [&](grpc::ClientContext* context) {
    return stub_->ListArtifacts(context, request, &response);
  });
  return {response.artifacts().begin(), response.artifacts().end()};
}

std::vector<v1::MetricPoint> ClusterClient::Metrics(const std::string& job,
                                                   std::optional<int64_t> epoch) {
  constexpr int64_t kStepsPerCall = 1000;  // a longer range may be thinned
  std::vector<v1::MetricPoint> points;
  v1::QueryMetricsRequest request;
  request.set_job(job);
  if (epoch) request.set_epoch(*epoch);
  for (int64_t from = 1;; from += kStepsPerCall) {
    request.set_from_step(from);
    request.set_to_step(from + kStepsPerCall - 1);
    v1::QueryMetricsResponse response;
    MustCall("QueryMetrics", [&](grpc::ClientContext* context) {
      return stub_->QueryMetrics(context, request, &response);
    });
    if (response.points().empty()) return points;
    points.insert(points.end(), response.points().begin(), response.points().end());
  }
}

v1::Job ClusterClient::WaitUntil(const std::string& job,
                                 const std::function<bool(const v1::Job&)>& done,
                                 absl::Duration timeout, const std::string& what) {
  const absl::Time deadline = absl::Now() + timeout;
  v1::Job latest;
  while (absl::Now() < deadline) {
    latest = Get(job);
    if (done(latest)) return latest;
    absl::SleepFor(kPoll);
  }
  ADD_FAILURE() << "job " << job << " is not " << what << " after " << timeout << ":\n"
                << latest.status().DebugString();
  return latest;
}

v1::Job ClusterClient::WaitForState(const std::string& job, v1::JobStatus::State state,
                                    absl::Duration timeout) {
  return WaitUntil(
      job,
      [state](const v1::Job& j) {
        return j.status().state() == state || IsTerminal(j.status().state());
      },
      timeout, v1::JobStatus::State_Name(state));
}

v1::Job ClusterClient::WaitForEnd(const std::string& job, absl::Duration timeout) {
  return WaitUntil(
      job, [](const v1::Job& j) { return IsTerminal(j.status().state()); }, timeout, "at its end");
}

v1::Job ClusterClient::WaitForStep(const std::string& job, int64_t step, absl::Duration timeout) {
  return WaitUntil(
      job,
      [step](const v1::Job& j) {
        return j.status().progress().step() >= step || IsTerminal(j.status().state());
      },
      timeout, "at step " + std::to_string(step));
}

void ClusterClient::WaitForReadyWorkers(int count, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  int ready = 0;
  while (absl::Now() < deadline) {
    ready = 0;
    for (const v1::Worker& worker : Workers()) ready += worker.state() == "READY";
    if (ready >= count) return;
    absl::SleepFor(kPoll);
  }
  ADD_FAILURE() << ready << " workers are ready, not " << count;
}

}  // namespace liger::e2e
