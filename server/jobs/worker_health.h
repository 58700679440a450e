#ifndef LIGER_SERVER_JOBS_WORKER_HEALTH_H_
#define LIGER_SERVER_JOBS_WORKER_HEALTH_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "liger/worker/v1/worker.pb.h"

namespace liger::server {

// Workers that fail what they get before it begins, for reasons of their own: such a one gets
// nothing for a while, then one task, its probe; what becomes of that decides. In memory, so a
// coordinator that starts finds all of them well. Times are steady. Thread-safe.
class WorkerHealth {
 public:
  // Tasks of so many jobs in a row: one job may be what fails itself, and one that fails on two
  // workers counts for neither. All dry runs count as one.
  static constexpr size_t kJobs = 3;
  // Nothing for so long after them; each probe that fails doubles it, while others are well.
  static constexpr int64_t kFirstRestUs = 30'000'000;
  static constexpr int64_t kLongestRestUs = 900'000'000;
  // A probe has so long to begin before another one is sent.
  static constexpr int64_t kProbeUs = 120'000'000;

  // A new session: what runs there has begun. An agent that was started anew is probed at once.
  void OnHello(const liger::worker::v1::Hello& hello) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnEvent(const std::string& worker_id, const liger::worker::v1::TaskEvent& event,
               int64_t now_us) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnRefused(const std::string& worker_id, const std::string& job_uid,
                 const std::string& reason, int64_t now_us) ABSL_LOCKS_EXCLUDED(mutex_);
  // What was sent there of this job does not run, which says nothing of the worker.
  void OnGivenUp(const std::string& worker_id, const std::string& job_uid)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Something of this job is sent there.
  void OnOffered(const std::string& worker_id, const std::string& job_uid, int64_t now_us)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Workers that get nothing now, and why.
  std::map<std::string, std::string> Resting(int64_t now_us) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Workers that get one task now.
  std::set<std::string> Probing(int64_t now_us) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Worker {
    int64_t incarnation = 0;
    std::set<std::string> begun;  // refs of tasks that have begun
    // Of the failures in a row:
    int failures = 0;
    std::set<std::string> jobs;
    std::string detail;  // of the last one
    // Once they are too many:
    int doublings = 0;
    int64_t rest_until_us = 0;         // nothing before
    std::optional<std::string> probe;  // its job
    int64_t probe_until_us = 0;        // no other one before

    bool Sick() const { return jobs.size() >= kJobs; }
    int64_t Rest() const;
    void EndProbe();
    void GetWell();
  };
  // The job fails wherever it is sent.
  void Acquit(const std::string& job_uid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OthersAreWell(const std::string& worker_id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteFailure(const std::string& worker_id, const std::string& job_uid,
                   const std::string& detail, int64_t now_us) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether a task of the job failed on another worker lately. Notes this failure.
  bool FailedElsewhere(const std::string& worker_id, const std::string& job_uid)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteBegun(const std::string& worker_id, const std::string& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::map<std::string, Worker> workers_ ABSL_GUARDED_BY(mutex_);
  // The last failures: job_uid, worker_id.
  std::deque<std::pair<std::string, std::string>> recent_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::server

#endif  // LIGER_SERVER_JOBS_WORKER_HEALTH_H_
