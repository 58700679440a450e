#ifndef LIGER_SERVER_API_FINE_TUNING_SERVICE_H_
#define LIGER_SERVER_API_FINE_TUNING_SERVICE_H_

#include "liger/v1/fine_tuning.grpc.pb.h"
#include "server/api/change_hub.h"
#include "server/api/live_streams.h"
#include "server/catalog/catalog.h"
#include "server/fleet/fleet.h"
#include "server/jobs/job_service.h"
#include "server/logs/log_store.h"
#include "server/rpc/executor.h"
#include "server/store/store.h"

namespace liger::server {

// What the handlers delegate to. All outlive the service.
struct ApiBackends {
  Store* store = nullptr;
  JobService* jobs = nullptr;
  const Catalog* catalog = nullptr;
  const Fleet* fleet = nullptr;
  LogStore* logs = nullptr;
  ChangeHub* hub = nullptr;
  LiveStreams* streams = nullptr;
  Executor* files = nullptr;  // for log files
};

// liger.v1.FineTuning. A handler checks the shape of its request, hands it to
// JobService (writes) or the store (reads), and converts the status; it runs on
// a gRPC thread and never waits.
class FineTuningService : public liger::v1::FineTuning::CallbackService {
 public:
  explicit FineTuningService(const ApiBackends& backends) : b_(backends) {}

  // Writes (job_handlers.cpp)
  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* context,
                                      const liger::v1::CreateJobRequest* request,
                                      liger::v1::CreateJobResponse* response) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const liger::v1::CancelJobRequest* request,
                                      liger::v1::Job* response) override;
  grpc::ServerUnaryReactor* PauseJob(grpc::CallbackServerContext* context,
                                     const liger::v1::PauseJobRequest* request,
                                     liger::v1::Job* response) override;
  grpc::ServerUnaryReactor* ResumeJob(grpc::CallbackServerContext* context,
                                      const liger::v1::ResumeJobRequest* request,
                                      liger::v1::Job* response) override;
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* context,
                                      const liger::v1::DeleteJobRequest* request,
                                      liger::v1::DeleteJobResponse* response) override;

  // Reads of jobs (job_handlers.cpp, job_data_handlers.cpp)
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const liger::v1::GetJobRequest* request,
                                   liger::v1::Job* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const liger::v1::ListJobsRequest* request,
                                     liger::v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* ListEvents(grpc::CallbackServerContext* context,
                                       const liger::v1::ListEventsRequest* request,
                                       liger::v1::ListEventsResponse* response) override;
  grpc::ServerUnaryReactor* QueryMetrics(grpc::CallbackServerContext* context,
                                         const liger::v1::QueryMetricsRequest* request,
                                         liger::v1::QueryMetricsResponse* response) override;
  grpc::ServerUnaryReactor* ListArtifacts(grpc::CallbackServerContext* context,
                                          const liger::v1::ListArtifactsRequest* request,
                                          liger::v1::ListArtifactsResponse* response) override;

  // Streams (stream_handlers.cpp)
  grpc::ServerWriteReactor<liger::v1::WatchJobsResponse>* WatchJobs(
      grpc::CallbackServerContext* context, const liger::v1::WatchJobsRequest* request) override;
  grpc::ServerWriteReactor<liger::v1::TailLogsResponse>* TailLogs(
      grpc::CallbackServerContext* context, const liger::v1::TailLogsRequest* request) override;

  // The fleet and the catalog (fleet_handlers.cpp)
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context,
                                        const liger::v1::ListWorkersRequest* request,
                                        liger::v1::ListWorkersResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const liger::v1::ListModelsRequest* request,
                                       liger::v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* ListDatasets(grpc::CallbackServerContext* context,
                                         const liger::v1::ListDatasetsRequest* request,
                                         liger::v1::ListDatasetsResponse* response) override;

 private:
  const ApiBackends b_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_API_FINE_TUNING_SERVICE_H_
