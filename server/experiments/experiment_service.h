#ifndef LIGER_SERVER_EXPERIMENTS_EXPERIMENT_SERVICE_H_
#define LIGER_SERVER_EXPERIMENTS_EXPERIMENT_SERVICE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "liger/v1/experiments.pb.h"
#include "server/jobs/job_service.h"
#include "server/store/store.h"

namespace liger::server {

class ExperimentLoop;

// What users ask of experiments. Threads and callbacks as JobService's; reads go
// to the store directly.
class ExperimentService {
 public:
  using Listener = std::function<void(const liger::v1::Experiment&)>;
  // `store` and `jobs` outlive the service and what is queued in the store. `changed`
  // hears of each experiment when what its jobs have come to was saved, on a thread of
  // the store; it must not wait. Empty: nobody.
  ExperimentService(Store* store, JobService* jobs, const JobServiceOptions& options,
                    Listener changed = {});
  ~ExperimentService();

  struct CreateCall {
    std::string tenant;
    std::string actor;
    liger::v1::ExperimentSpec spec;
    std::string request_id;
  };
  using CreateDone = std::function<void(absl::StatusOr<liger::v1::CreateExperimentResponse>)>;

  // INVALID_ARGUMENT with every field that is wrong, in the experiment or in any
  // of its jobs; ALREADY_EXISTS as JobService::Submit.
  void Create(CreateCall call, CreateDone done);
  // As Create, with a CHECK of each point and kernel setting on a worker (arm_checks.h), and
  // makes nothing. What it returns gives that up.
  std::function<void()> Validate(CreateCall call, CreateDone done);

  void Cancel(const std::string& tenant, const std::string& actor, const std::string& experiment,
              const std::string& reason,
              std::function<void(absl::StatusOr<liger::v1::Experiment>)> done);
  void Delete(const std::string& tenant, const std::string& actor, const std::string& experiment,
              std::function<void(absl::StatusOr<liger::v1::DeleteExperimentResponse>)> done);

  // Call every 200 ms or so.
  void Tick();
  // No pass of the loop begins after this.
  void Stop();

 private:
  // The experiment with its jobs, each resolved.
  absl::StatusOr<liger::v1::CreateExperimentResponse> Prepare(
      const liger::v1::ExperimentSpec& spec) const;
  int64_t NowUs() const;

  Store& store_;
  JobService& jobs_;
  const JobServiceOptions options_;
  const std::shared_ptr<ExperimentLoop> loop_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_EXPERIMENTS_EXPERIMENT_SERVICE_H_
