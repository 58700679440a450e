#ifndef LIGER_SERVER_API_EXPERIMENTS_SERVICE_H_
#define LIGER_SERVER_API_EXPERIMENTS_SERVICE_H_

#include "liger/v1/experiments.grpc.pb.h"
#include "server/experiments/experiment_service.h"
#include "server/store/store.h"

namespace liger::server {

// liger.v1.Experiments; handlers as FineTuningService's.
class ExperimentsApi : public liger::v1::Experiments::CallbackService {
 public:
  // Both outlive the service.
  ExperimentsApi(Store* store, ExperimentService* experiments)
      : store_(*store), experiments_(*experiments) {}

  grpc::ServerUnaryReactor* CreateExperiment(
      grpc::CallbackServerContext* context, const liger::v1::CreateExperimentRequest* request,
      liger::v1::CreateExperimentResponse* response) override;
  grpc::ServerUnaryReactor* GetExperiment(grpc::CallbackServerContext* context,
                                          const liger::v1::GetExperimentRequest* request,
                                          liger::v1::Experiment* response) override;
  grpc::ServerUnaryReactor* ListExperiments(grpc::CallbackServerContext* context,
                                            const liger::v1::ListExperimentsRequest* request,
                                            liger::v1::ListExperimentsResponse* response) override;
  grpc::ServerUnaryReactor* CancelExperiment(grpc::CallbackServerContext* context,
                                             const liger::v1::CancelExperimentRequest* request,
                                             liger::v1::Experiment* response) override;
  grpc::ServerUnaryReactor* DeleteExperiment(
      grpc::CallbackServerContext* context, const liger::v1::DeleteExperimentRequest* request,
      liger::v1::DeleteExperimentResponse* response) override;
  grpc::ServerUnaryReactor* GetRun(grpc::CallbackServerContext* context,
                                   const liger::v1::GetRunRequest* request,
                                   liger::v1::Run* response) override;

 private:
  Store& store_;
  ExperimentService& experiments_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_API_EXPERIMENTS_SERVICE_H_
