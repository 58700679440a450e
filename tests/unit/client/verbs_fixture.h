#ifndef LIGER_TESTS_UNIT_CLIENT_VERBS_FIXTURE_H_
#define LIGER_TESTS_UNIT_CLIENT_VERBS_FIXTURE_H_

// The real liger-cli against a scripted coordinator.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/server_builder.h"
#include "liger/v1/fine_tuning.grpc.pb.h"
#include "tests/paths.h"

namespace liger::client {

using liger::v1::Job;
using liger::v1::JobStatus;

inline Job MakeJob(JobStatus::State state) {
  Job job;
  job.set_uid("u1");
  job.set_name("j1");
  job.mutable_spec()->mutable_orpo();
  job.mutable_spec()->mutable_model()->set_name("tiny");
  *job.mutable_resolved_spec() = job.spec();
  job.mutable_status()->set_state(state);
  return job;
}

inline constexpr char kWorkerId[] = "0f8fad5b-d9cb-469f-a165-70867728950e";

class ScriptedServer : public liger::v1::FineTuning::Service {
 public:
  grpc::Status CreateJob(grpc::ServerContext*, const liger::v1::CreateJobRequest* request,
                         liger::v1::CreateJobResponse* response) override {
    absl::MutexLock lock(&mutex);
    created = *request;
    if (!create_status.ok()) return create_status;
    *response->mutable_job() = MakeJob(JobStatus::QUEUED);
    response->add_notices("using dataset pairs");
    response->add_warnings()->set_message("an answer is empty");
    if (name_taken) {
      auto* warning = response->add_warnings();
      warning->set_code("NameTaken");
      warning->set_message("a job named 'j1' exists");
    }
    return grpc::Status::OK;
  }
  grpc::Status GetJob(grpc::ServerContext*, const liger::v1::GetJobRequest* request,
                      Job* response) override {
    if (request->job() != "j1") return {grpc::StatusCode::NOT_FOUND, "no job 'nope'"};
    absl::MutexLock lock(&mutex);
    *response = MakeJob(end_state);
    response->mutable_status()->set_message("the loss is NaN at step 3");
    response->mutable_status()->set_action("lower the learning rate");
    auto* progress = response->mutable_status()->mutable_progress();
    (*progress->mutable_peak_memory_bytes())["allocated"] = 25'000'000'000;
    (*progress->mutable_predicted_memory_bytes())["allocated"] = 25'280'000'000;
    auto* attempt = response->mutable_status()->add_attempts();
    attempt->set_epoch(1);
    attempt->set_state("FAILED");
    attempt->set_worker_id(kWorkerId);
    for (const auto& [step, loss] : {std::pair{0, 2.5}, {2, 1.25}}) {
      auto* evaluation = response->mutable_status()->add_evaluations();
      evaluation->set_step(step);
      (*evaluation->mutable_values())["eval_loss"] = loss;
    }
    return grpc::Status::OK;
  }
  grpc::Status QueryMetrics(grpc::ServerContext*, const liger::v1::QueryMetricsRequest* request,
                            liger::v1::QueryMetricsResponse* response) override {
    const auto& names = request->names();
    const bool loss = names.empty() || std::find(names.begin(), names.end(), "loss") != names.end();
    for (const int64_t step : {1, 2, 3}) {
      auto* point = response->add_points();
      point->set_step(step);
      if (loss) (*point->mutable_values())["loss"] = 4.0 - static_cast<double>(step);
    }
    return grpc::Status::OK;
  }
  grpc::Status ListJobs(grpc::ServerContext*, const liger::v1::ListJobsRequest* request,
                        liger::v1::ListJobsResponse* response) override {
    if (!request->filter().empty()) return grpc::Status::OK;
    *response->add_jobs() = MakeJob(JobStatus::RUNNING);
    response->mutable_jobs(0)->mutable_status()->set_message(
        std::string("placed on worker ") + kWorkerId);
    return grpc::Status::OK;
  }
  grpc::Status ListWorkers(grpc::ServerContext*, const liger::v1::ListWorkersRequest*,
                           liger::v1::ListWorkersResponse* response) override {
    auto* worker = response->add_workers();
    worker->set_worker_id(kWorkerId);
    worker->set_name("node-1");
    worker->set_state("READY");
    return grpc::Status::OK;
  }
  grpc::Status ListModels(grpc::ServerContext*, const liger::v1::ListModelsRequest*,
                          liger::v1::ListModelsResponse* response) override {
    auto* model = response->add_models();
    model->set_name("tiny");
    model->set_uri("tiny");
    model->add_present_on(kWorkerId);
    return grpc::Status::OK;
  }
  // Of j1 a checkpoint that is good and one that is not.
  grpc::Status ListArtifacts(grpc::ServerContext*, const liger::v1::ListArtifactsRequest* request,
                             liger::v1::ListArtifactsResponse* response) override {
    if (request->job() != "j1") return grpc::Status::OK;
    for (const bool good : {true, false}) {
      auto* artifact = response->add_artifacts();
      artifact->set_kind("checkpoint");
      artifact->set_uri(good ? "file:///out/checkpoint-20" : "file:///out/checkpoint-40.damaged");
      artifact->set_state(good ? liger::v1::Artifact::AVAILABLE
                               : liger::v1::Artifact::QUARANTINED);
      artifact->set_reason(good ? "" : "its digest differs");
    }
    return grpc::Status::OK;
  }
  grpc::Status CancelJob(grpc::ServerContext*, const liger::v1::CancelJobRequest*,
                         Job* response) override {
    absl::MutexLock lock(&mutex);
    *response = MakeJob(cancelled_state);
    return grpc::Status::OK;
  }
  grpc::Status PauseJob(grpc::ServerContext*, const liger::v1::PauseJobRequest* request,
                        Job* response) override {
    if (request->job() == "over") {
      google::rpc::Status details;
      details.set_message("job 'over' cannot be paused: it has ended (SUCCEEDED)");
      return {grpc::StatusCode::FAILED_PRECONDITION, details.message(),
              details.SerializeAsString()};
    }
    *response = MakeJob(JobStatus::PAUSING);
    absl::MutexLock lock(&mutex);
    first_watched = JobStatus::PAUSING;
    return grpc::Status::OK;
  }
  grpc::Status ResumeJob(grpc::ServerContext*, const liger::v1::ResumeJobRequest*,
                         Job* response) override {
    *response = MakeJob(JobStatus::QUEUED);
    return grpc::Status::OK;
  }
  grpc::Status DeleteJob(grpc::ServerContext*, const liger::v1::DeleteJobRequest*,
                         liger::v1::DeleteJobResponse*) override {
    google::rpc::Status details;
    details.set_message("the coordinator is stopping");
    return {grpc::StatusCode::UNAVAILABLE, details.message(), details.SerializeAsString()};
  }
  // Ends in the middle of an attempt's log, as when a coordinator restarts.
  grpc::Status TailLogs(grpc::ServerContext*, const liger::v1::TailLogsRequest*,
                        grpc::ServerWriter<liger::v1::TailLogsResponse>* writer) override {
    absl::MutexLock lock(&mutex);
    const std::string log = tails++ == 0 ? "one two" : "one two three\n";
    for (size_t offset = 0; offset < log.size(); offset += 5) {
      liger::v1::TailLogsResponse piece;
      piece.set_epoch(1);
      piece.set_offset(static_cast<int64_t>(offset));
      piece.set_data(log.substr(offset, 5));
      writer->Write(piece);
    }
    return tails == 1 ? grpc::Status(restart_code, "") : grpc::Status::OK;
  }
  grpc::Status WatchJobs(grpc::ServerContext*, const liger::v1::WatchJobsRequest* request,
                         grpc::ServerWriter<liger::v1::WatchJobsResponse>* writer) override {
    liger::v1::WatchJobsResponse update;
    {
      absl::MutexLock lock(&mutex);
      *update.mutable_job() = MakeJob(first_watched);
    }
    auto* progress = update.mutable_job()->mutable_status()->mutable_progress();
    progress->set_step(3);
    progress->set_max_steps(10);
    (*progress->mutable_values())["loss"] = 1.5;
    update.set_revision(7);
    writer->Write(update);
    absl::MutexLock lock(&mutex);
    // The first stream breaks, as when a coordinator restarts.
    if (watches++ == 0) return {restart_code, ""};
    resumed_from = request->from_revision();
    if (restored && resumed_from > 0) return RevisionUnknown();
    if (end_state == JobStatus::RUNNING) {
      mutex.Await(absl::Condition(&released));
      return grpc::Status::OK;
    }
    *update.mutable_job() = MakeJob(end_state);
    update.mutable_job()->mutable_status()->set_output_uri("/out/j1");
    update.set_revision(8);
    writer->Write(update);
    return grpc::Status::OK;
  }

  static grpc::Status RevisionUnknown() {
    google::rpc::ErrorInfo info;
    info.set_reason("REVISION_UNKNOWN");
    google::rpc::Status details;
    details.add_details()->PackFrom(info);
    return {grpc::StatusCode::OUT_OF_RANGE, "not reached yet", details.SerializeAsString()};
  }

  absl::Mutex mutex;
  grpc::Status create_status ABSL_GUARDED_BY(mutex);
  bool name_taken ABSL_GUARDED_BY(mutex) = false;
  liger::v1::CreateJobRequest created ABSL_GUARDED_BY(mutex);
  JobStatus::State end_state ABSL_GUARDED_BY(mutex) = JobStatus::SUCCEEDED;
  // What calls to a coordinator that goes away end with.
  grpc::StatusCode restart_code ABSL_GUARDED_BY(mutex) = grpc::StatusCode::UNAVAILABLE;
  JobStatus::State cancelled_state ABSL_GUARDED_BY(mutex) = JobStatus::CANCELLED;
  JobStatus::State first_watched ABSL_GUARDED_BY(mutex) = JobStatus::RUNNING;
  int watches ABSL_GUARDED_BY(mutex) = 0;
  int tails ABSL_GUARDED_BY(mutex) = 0;
  bool restored ABSL_GUARDED_BY(mutex) = false;
  int64_t resumed_from ABSL_GUARDED_BY(mutex) = -1;
  bool released ABSL_GUARDED_BY(mutex) = false;
};

struct Result {
  int code = -1;
  std::string text;  // stdout and stderr
};

class VerbsTest : public testing::Test {
 protected:
  VerbsTest() { Serve(); }
  ~VerbsTest() override {
    {
      absl::MutexLock lock(&service_.mutex);
      service_.released = true;
    }
    if (server_ != nullptr) server_->Shutdown();
  }

  // On a port that is free, and that one again from then on.
  void Serve() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port_),
                             grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }

  // The port is closed afterwards.
  void Stop() {
    server_->Shutdown();
    server_.reset();
  }

  Result Run(const std::string& arguments, const std::string& prefix = "",
             const std::string& redirect = " 2>&1") {
    const std::string command =
        "LIGER_CONFIG=/nonexistent LIGER_ADDRESS=127.0.0.1:" + std::to_string(port_) + " " +
        prefix + " " + BinDir() + "/liger-cli " + arguments + redirect;
    Result result;
    FILE* pipe = popen(command.c_str(), "r");
    std::array<char, 4096> piece;
    while (size_t n = fread(piece.data(), 1, piece.size(), pipe)) {
      result.text.append(piece.data(), n);
    }
    result.code = WEXITSTATUS(pclose(pipe));
    return result;
  }

  void EndWith(JobStatus::State state) {
    absl::MutexLock lock(&service_.mutex);
    service_.end_state = state;
  }

  void CancelLeaves(JobStatus::State state) {
    absl::MutexLock lock(&service_.mutex);
    service_.cancelled_state = state;
  }

  ScriptedServer service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace liger::client

#endif  // LIGER_TESTS_UNIT_CLIENT_VERBS_FIXTURE_H_
