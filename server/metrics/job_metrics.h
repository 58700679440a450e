#ifndef LIGER_SERVER_METRICS_JOB_METRICS_H_
#define LIGER_SERVER_METRICS_JOB_METRICS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "liger/trainer/v1/trainer.pb.h"
#include "liger/v1/job.pb.h"
#include "prometheus/registry.h"

namespace liger::server {

// The liger_job_* series. Every series carries job_name and job_uid; what the
// job is stands once, on liger_job_info. That and its state appear with a job's first
// update, what counts its steps when it runs; all go `kRetention` after its end.
class JobMetrics {
 public:
  static constexpr absl::Duration kRetention = absl::Minutes(5);

  explicit JobMetrics(prometheus::Registry* registry);
  ~JobMetrics();

  // The job after a change or progress report. Jobs that ended longer than
  // kRetention ago are ignored.
  void Update(const liger::v1::Job& job, absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);

  // Of a job that runs: since its trainer last got on.
  void SetIdle(const std::string& job_uid, absl::Duration idle) ABSL_LOCKS_EXCLUDED(mutex_);

  // Brings the token counter of an attempt to `tokens_total`. The counter is
  // the sum over attempts and never falls.
  void SetTokens(const std::string& job_uid, int64_t epoch, int64_t tokens_total)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // One logged step of an attempt. Feed each step once, in order, after it is
  // stored, so that a restart that replays the store gives the same numbers.
  void ObserveStep(const std::string& job_uid, int64_t epoch, const liger::trainer::v1::Step& step)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Removes the series of jobs that ended kRetention ago.
  void Sweep(absl::Time now) ABSL_LOCKS_EXCLUDED(mutex_);

  // Removes a job's series at once.
  void Remove(const std::string& job_uid) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Families;
  struct Series;

  std::unique_ptr<Series> MakeSeries(const liger::v1::Job& job)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes the series that only a job which runs has.
  void CountStepsLocked(Series* series) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetStateLocked(Series* series, const liger::v1::JobStatus& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetTokensLocked(Series* series, int64_t epoch, int64_t tokens_total)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  const std::unique_ptr<Families> families_;
  std::map<std::string, std::unique_ptr<Series>> series_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::server

#endif  // LIGER_SERVER_METRICS_JOB_METRICS_H_
