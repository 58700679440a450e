#ifndef LIGER_TESTS_UNIT_COORDINATOR_CLUSTER_H_
#define LIGER_TESTS_UNIT_COORDINATOR_CLUSTER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "liger/v1/fine_tuning.grpc.pb.h"
#include "server/coordinator/coordinator.h"
#include "tests/unit/coordinator/fake_worker.h"

namespace liger::testing {

// A coordinator on ephemeral ports with a data folder of its own and leases
// short enough for tests (0.1 / 0.5 / 0.8 / 5 s). Workers and clients reach it
// over real gRPC.
class Cluster {
 public:
  using Options = liger::server::CoordinatorOptions;
  explicit Cluster(const std::function<void(Options*)>& change = {});
  ~Cluster();

  liger::server::Coordinator& coordinator() { return *coordinator_; }
  liger::v1::FineTuning::Stub& api() { return *api_; }
  const std::string& data_dir() const { return options_.data_dir; }

  // Ends the coordinator, orderly, and starts it again on the same folder.
  // Ports change, as they are ephemeral.
  void StopCoordinator();
  void StartCoordinator();

  // Not connected yet.
  std::unique_ptr<FakeWorker> MakeWorker(FakeWorkerOptions options = {});

  // Calls of the API, as absl::Status.
  absl::StatusOr<liger::v1::CreateJobResponse> Create(const liger::v1::CreateJobRequest& request);
  absl::StatusOr<liger::v1::Job> Submit(const std::string& name);
  absl::StatusOr<liger::v1::Job> Get(const std::string& job);
  absl::StatusOr<liger::v1::Job> Cancel(const std::string& job, const std::string& reason = "");
  absl::StatusOr<liger::v1::Job> Pause(const std::string& job, const std::string& reason = "");
  absl::StatusOr<liger::v1::Job> Resume(const std::string& job);
  absl::Status Delete(const std::string& job);

  // The job once it is in `state`; the test fails when it does not get there.
  liger::v1::Job WaitFor(const std::string& job, liger::v1::JobStatus::State state,
                         absl::Duration timeout = absl::Seconds(5));
  liger::v1::Job WaitUntil(const std::string& job,
                           const std::function<bool(const liger::v1::Job&)>& holds,
                           absl::Duration timeout = absl::Seconds(5));

 private:
  Options options_;
  std::unique_ptr<liger::server::Coordinator> coordinator_;
  std::unique_ptr<liger::v1::FineTuning::Stub> api_;
};

// A valid SFT job on paths, so that no inventory is needed.
liger::v1::JobSpec TinySpec(const std::string& name);

}  // namespace liger::testing

#endif  // LIGER_TESTS_UNIT_COORDINATOR_CLUSTER_H_
