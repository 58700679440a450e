#ifndef LIGER_SERVER_JOBS_LOOKS_H_
#define LIGER_SERVER_JOBS_LOOKS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace liger::server {

// Scans of the workers' roots that somebody waits for. They live only as long as
// that, so they are not stored. Thread-safe; callbacks run in the caller, without the
// lock.
class Looks {
 public:
  // Gets the workers that have answered.
  using Done = std::function<void(const std::set<std::string>&)>;

  // Waits for these workers until then at the latest, but for none that let an earlier
  // look's time go by and has answered nothing since; for none: `done` comes at once.
  // Returns the id to ask them with, above all earlier ones, those of an earlier
  // coordinator too.
  int64_t Add(std::set<std::string> workers, int64_t now_us, int64_t until_us, Done done);
  // The worker has answered this one and all before.
  void OnLooked(const std::string& worker_id, int64_t id);
  // What the worker was asked is lost.
  void GiveUp(const std::string& worker_id);
  void Expire(int64_t now_us);
  void EndAll();

 private:
  struct Look {
    std::set<std::string> awaited;
    std::set<std::string> answered;
    int64_t until_us = 0;
    Done done;
  };
  // Changes each look by `change`, and ends those that wait for nobody any more.
  void Settle(const std::function<void(int64_t id, Look&)>& change) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  int64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int64_t, Look> looks_ ABSL_GUARDED_BY(mutex_);
  // Workers that are not waited for, and the newest look that each let go by.
  std::map<std::string, int64_t> silent_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_LOOKS_H_
