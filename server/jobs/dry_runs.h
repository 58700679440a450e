#ifndef LIGER_SERVER_JOBS_DRY_RUNS_H_
#define LIGER_SERVER_JOBS_DRY_RUNS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "liger/worker/v1/worker.pb.h"
#include "server/store/records.h"

namespace liger::server {

// CHECK tasks of specs that are no job: they live only as long as somebody
// waits for them, so they are not stored. Thread-safe; callbacks run in the
// caller, without the lock.
class DryRuns {
 public:
  using Done = std::function<void(absl::StatusOr<liger::trainer::v1::CheckResult>)>;

  // The ref to start the task with: no job, epoch 0.
  static liger::trainer::v1::Ref RefOf(const std::string& id);
  static bool IsDryRun(const liger::trainer::v1::Ref& ref) { return ref.job_uid().empty(); }

  // After FailAll it fails at once.
  void Add(const std::string& id, const std::string& worker_id, int64_t deadline_us, Done done);
  bool Contains(const std::string& id) const;
  // They take their workers' CHECK slots, as jobs' checks do.
  std::vector<TaskRow> Running() const;
  // A worker's event: the result, or an exit without one, ends the run. False:
  // it changed nothing.
  bool OnEvent(const liger::worker::v1::TaskEvent& event);
  // The worker of the run; empty when it had ended.
  std::string Fail(const std::string& id, const absl::Status& status);
  // The worker came back: what it does not own ended with its last session.
  void FailUnowned(const liger::worker::v1::Hello& hello);
  void FailWorker(const std::string& worker_id, const absl::Status& status);
  // Those whose time is up, with their worker; they have failed.
  std::vector<std::pair<std::string, liger::trainer::v1::Ref>> Expire(int64_t now_us);
  void FailAll(const absl::Status& status);

 private:
  struct Run {
    std::string worker_id;
    int64_t deadline_us;
    Done done;
  };
  std::optional<Run> Take(const std::string& id);

  mutable absl::Mutex mutex_;
  std::map<std::string, Run> runs_ ABSL_GUARDED_BY(mutex_);
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);  // not OK after FailAll
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_DRY_RUNS_H_
