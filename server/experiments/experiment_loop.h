#ifndef LIGER_SERVER_EXPERIMENTS_EXPERIMENT_LOOP_H_
#define LIGER_SERVER_EXPERIMENTS_EXPERIMENT_LOOP_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "server/experiments/plan.h"
#include "server/jobs/job_service.h"
#include "server/store/store.h"

namespace liger::server {

// Looks at the experiments that are not over, plans, saves the plans and carries
// them out, one pass at a time. What was decided is stored before it is done, and
// doing it twice does it once (jobs have names and request ids of their own), so a
// crash between loses nothing. Thread-safe.
class ExperimentLoop : public std::enable_shared_from_this<ExperimentLoop> {
 public:
  // `store` and `jobs` outlive the loop and what it has queued in the store.
  ExperimentLoop(Store* store, JobService* jobs, const Clock* clock)
      : store_(*store), jobs_(*jobs), clock_(*clock) {}

  // Something changed. Returns at once.
  void Request() ABSL_LOCKS_EXCLUDED(mutex_);
  // Time passes: a pass now and then, more often while some experiment runs.
  void Tick() ABSL_LOCKS_EXCLUDED(mutex_);
  // No pass begins after this.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Facts = std::vector<ExperimentFacts>;

  int64_t NowUs() const;
  void StartPass() ABSL_LOCKS_EXCLUDED(mutex_);
  void FinishPass() ABSL_LOCKS_EXCLUDED(mutex_);
  ExperimentFacts Gather(const ReadView& view, ExperimentRow row,
                         const std::vector<WorkerRow>& workers) ABSL_LOCKS_EXCLUDED(mutex_);
  void Carry(const Facts& facts);
  void Save(std::shared_ptr<void> pass, const ExperimentFacts& facts, ExperimentPlan plan);
  void Do(std::shared_ptr<void> pass, const ExperimentRow& row, const ExperimentPlan& plan);
  void Submit(std::shared_ptr<void> pass, const ExperimentRow& row,
              const liger::v1::Experiment& experiment, int index);
  void Refuse(const std::string& uid, int index, const absl::Status& why)
      ABSL_LOCKS_EXCLUDED(mutex_);

  Store& store_;
  JobService& jobs_;
  const Clock& clock_;

  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool again_ ABSL_GUARDED_BY(mutex_) = false;
  bool some_active_ ABSL_GUARDED_BY(mutex_) = true;  // until the first pass has looked
  int64_t last_pass_us_ ABSL_GUARDED_BY(mutex_) = 0;
  // Jobs that could not be submitted, until that is saved: by {uid, index}.
  std::map<std::pair<std::string, int>, std::string> refused_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::server

#endif  // LIGER_SERVER_EXPERIMENTS_EXPERIMENT_LOOP_H_
