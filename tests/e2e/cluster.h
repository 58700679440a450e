#ifndef LIGER_TESTS_E2E_CLUSTER_H_
#define LIGER_TESTS_E2E_CLUSTER_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "liger/v1/job_spec.pb.h"
#include "tests/e2e/child_process.h"
#include "tests/e2e/cluster_client.h"

namespace liger::e2e {

struct ClusterOptions {
  int workers = 1;
  int cpu_slots = 1;
  // Lease terms in seconds; production's are 2, 15 and 20.
  double heartbeat = 0.25;
  double fence = 3;
  double reassign = 5;
  std::vector<std::string> coordinator_flags, worker_flags;
  std::map<std::string, std::string> worker_environment;
  // Each worker has models of its own, below models-<index>/; else all have those of models/.
  bool own_models = false;
  // Likewise outputs-<index>/.
  bool own_outputs = false;
};

// A coordinator and workers as processes of their own, on free ports of
// loopback, with everything below one temporary folder: models/tiny,
// datasets/tiny.jsonl, outputs/, and a data folder and a log per process.
class Cluster {
 public:
  explicit Cluster(const ClusterOptions& options);
  // Stops everything gracefully, checks that nothing is left (ExpectNoLeaks),
  // and removes the folder. When the test has failed, shows the logs.
  ~Cluster();

  ClusterClient& client() { return *client_; }
  ChildProcess& coordinator() { return *coordinator_; }
  ChildProcess& worker(int index) { return *workers_[index]->process; }
  const std::string& dir() const { return dir_; }
  std::string models() const { return dir_ + "/models"; }
  std::string models(int worker) const;
  std::string datasets() const { return dir_ + "/datasets"; }
  const std::string& api_address() const { return api_address_; }
  const std::string& worker_address() const { return worker_address_; }
  // Of the worker that has it.
  std::string output(const std::string& job_name) const;

  // On the same ports and data folder as before.
  void StartCoordinator();
  void StartWorker(int index);
  // The worker's index by its id; -1 when it is none of this cluster's.
  int WorkerIndex(const std::string& worker_id) const;

  // A job on the tiny model: `steps` SFT steps of two rows.
  v1::JobSpec TinyJob(const std::string& name, int64_t steps) const;
  // Trainers that a worker of this cluster started and that still run.
  std::vector<pid_t> Trainers() const;
  // Until some trainer has written so many lines of its metrics.jsonl: sooner than its progress
  // is told.
  void WaitForLoggedSteps(int lines) const;
  bool WaitForNoTrainers(absl::Duration timeout) const;

  // Folders of failed attempts that the workers kept.
  std::vector<std::string> FailedFolders() const;

  // No trainer runs, every device is free, no attempt folder and no staging
  // folder is left.
  void ExpectIdle();

 private:
  struct WorkerSlot {
    std::string data_dir;
    std::unique_ptr<ChildProcess> process;
  };
  void Stop();
  std::string outputs(int worker) const;
  // TMPDIR of every process: what appears there and stays is a leak.
  std::string temporary() const { return dir_ + "/tmp"; }
  void NotePorts();
  std::set<std::string> AllFiles() const;
  void ExpectNoLeaks() const;
  void ShowLogs() const;

  const ClusterOptions options_;
  std::string dir_;
  std::string mark_;
  std::string api_address_, worker_address_, metrics_address_;
  std::set<int> ports_;                 // that our processes listened on
  std::set<std::string> files_before_;  // when everything was up and idle
  std::unique_ptr<ChildProcess> coordinator_;
  std::vector<std::unique_ptr<WorkerSlot>> workers_;
  std::unique_ptr<ClusterClient> client_;
};

}  // namespace liger::e2e

#endif  // LIGER_TESTS_E2E_CLUSTER_H_
