#ifndef LIGER_WORKER_AGENT_SPAWNER_H_
#define LIGER_WORKER_AGENT_SPAWNER_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace liger::agent {

// A process to start. Descriptors 0 (/dev/null), 1 and 2 (log_fd) and those of
// pass_fds are all that it inherits.
struct SpawnRequest {
  std::vector<std::string> argv;           // argv[0] is the program's path
  std::map<std::string, std::string> env;  // whole environment
  std::string working_dir;
  int log_fd = -1;
  // Descriptors to hand over under the same numbers; each at least 3.
  std::vector<int> pass_fds;
};

// A process named so that a reused pid is not mistaken for it.
struct ProcessId {
  pid_t pid = 0;
  int64_t start_ticks = 0;
};

// Starts trainers, all from one permanent thread: PR_SET_PDEATHSIG fires when
// the *thread* that forked ends, so it must live as long as the agent. Each
// child leads its own session and so its own process group.
class Spawner {
 public:
  Spawner();
  ~Spawner();
  Spawner(const Spawner&) = delete;
  Spawner& operator=(const Spawner&) = delete;

  // Blocks until the child has called execve. NOT_FOUND or the errno of the
  // step that failed, with the program's path.
  absl::StatusOr<ProcessId> Spawn(const SpawnRequest& request);

 private:
  struct Job {
    const SpawnRequest* request = nullptr;
    absl::StatusOr<ProcessId> result = absl::UnknownError("not run");
    bool done = false;
  };
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return job_ == nullptr; }
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !Idle(); }
  void Run();

  absl::Mutex mutex_;
  Job* job_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_SPAWNER_H_
