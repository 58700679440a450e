#ifndef LIGER_TESTS_E2E_CLUSTER_CLIENT_H_
#define LIGER_TESTS_E2E_CLUSTER_CLIENT_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "liger/v1/fine_tuning.grpc.pb.h"

namespace liger::e2e {

// The public API as the tests use it: every call that must succeed fails the
// test otherwise, and is tried again while the coordinator is away.
class ClusterClient {
 public:
  explicit ClusterClient(const std::string& address);

  grpc::Status TryCreate(const v1::JobSpec& spec, v1::Job* job, const std::string& request_id = "");
  v1::Job Create(const v1::JobSpec& spec);
  // A dry run.
  grpc::Status TryValidate(const v1::JobSpec& spec);
  v1::Job Get(const std::string& job);
  v1::Job Cancel(const std::string& job);
  v1::Job Pause(const std::string& job);
  v1::Job Resume(const std::string& job);
  std::vector<v1::Worker> Workers();
  // All of them.
  std::vector<v1::JobEvent> Events(const std::string& job);
  std::vector<v1::Artifact> Artifacts(const std::string& job);
  // Of all attempts or, with an `epoch`, of that one alone.
  std::vector<v1::MetricPoint> Metrics(const std::string& job,
                                       std::optional<int64_t> epoch = std::nullopt);

  // The job once `done` holds. On a timeout the test fails and shows the job.
  v1::Job WaitUntil(const std::string& job, const std::function<bool(const v1::Job&)>& done,
                    absl::Duration timeout, const std::string& what);
  v1::Job WaitForState(const std::string& job, v1::JobStatus::State state,
                       absl::Duration timeout = absl::Minutes(2));
  v1::Job WaitForEnd(const std::string& job, absl::Duration timeout = absl::Minutes(2));
  v1::Job WaitForStep(const std::string& job, int64_t step,
                      absl::Duration timeout = absl::Minutes(2));
  // Until `count` workers are READY.
  void WaitForReadyWorkers(int count, absl::Duration timeout = absl::Minutes(1));

 private:
  void MustCall(const char* name, const std::function<grpc::Status(grpc::ClientContext*)>& call);

  std::unique_ptr<v1::FineTuning::Stub> stub_;
};

bool IsTerminal(v1::JobStatus::State state);

}  // namespace liger::e2e

#endif  // LIGER_TESTS_E2E_CLUSTER_CLIENT_H_
