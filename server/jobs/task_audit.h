#ifndef LIGER_SERVER_JOBS_TASK_AUDIT_H_
#define LIGER_SERVER_JOBS_TASK_AUDIT_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "server/store/read_view.h"

namespace liger::server {

struct TaskDifferences {
  // Listed by the worker; nobody knows them, or their epoch is over.
  std::vector<liger::trainer::v1::Ref> unknown;
  // The store's, of this worker, and not listed by it.
  std::set<std::string> missing;
};

// Dry runs, which no store knows, are left out.
TaskDifferences CompareTasks(const ReadView& view, const std::string& worker_id,
                             const std::vector<liger::trainer::v1::Ref>& listed);

// When to compare what a worker's heartbeats list with the store, and when a
// difference is one that will not pass by itself. Thread-safe.
class TaskAudit {
 public:
  static constexpr int64_t kIntervalUs = 10'000'000;
  // Longer than a task is on its way to a worker (FleetOptions::prepare_timeout).
  static constexpr int64_t kPatienceUs = 90'000'000;

  // At most once an interval.
  bool Due(const std::string& worker_id, int64_t now_us) ABSL_LOCKS_EXCLUDED(mutex_);
  // Something has been missing for longer than the patience; asked again, it
  // begins to count anew.
  bool Lasts(const std::string& worker_id, const std::set<std::string>& missing, int64_t now_us)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // A new session: it was reconciled in full.
  void Forget(const std::string& worker_id) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Worker {
    int64_t compared_us = 0;
    std::map<std::string, int64_t> missing_since_us;
  };

  absl::Mutex mutex_;
  std::map<std::string, Worker> workers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_TASK_AUDIT_H_
