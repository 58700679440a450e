#ifndef LIGER_SERVER_EXPERIMENTS_EXPERIMENT_LOOP_H_
#define LIGER_SERVER_EXPERIMENTS_EXPERIMENT_LOOP_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
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
  // As ExperimentService's.
  using Listener = std::function<void(const liger::v1::Experiment&)>;
  // `store` and `jobs` outlive the loop and what it has queued in the store.
  ExperimentLoop(Store* store, JobService* jobs, const Clock* clock, Listener changed)
      : store_(*store), jobs_(*jobs), clock_(*clock), changed_(std::move(changed)) {}

  // Something changed. Returns at once.
  void Request() ABSL_LOCKS_EXCLUDED(mutex_);
  // Time passes: a pass now and then, more often while some experiment runs.
  void Tick() ABSL_LOCKS_EXCLUDED(mutex_);
  // No pass begins after this.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // What the workers listed when they were last asked to look.
  struct Files {
    int64_t asked_us = 0;
    int64_t told_us = 0;                    // steady; 0: not yet
    std::set<liger::v1::DeviceKind> kinds;  // of devices that jobs could have had then
    std::vector<WorkerRow> listed;          // those that have answered
  };
  struct Facts {
    std::vector<ExperimentFacts> experiments;
    bool look = false;  // they are to look again: something waits for it
  };

  int64_t NowUs() const;
  int64_t SteadyUs() const;
  // False of what lies ahead: the clock was set back.
  bool AskedBefore(int64_t asked_us, int64_t event_us) const;
  void StartPass() ABSL_LOCKS_EXCLUDED(mutex_);
  void FinishPass() ABSL_LOCKS_EXCLUDED(mutex_);
  ExperimentFacts Gather(const ReadView& view, ExperimentRow row,
                         const std::vector<WorkerRow>& workers, const Files& files, bool* look)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void GatherEarlier(const ReadView& view, const Files& files, ExperimentFacts* facts, bool* look);
  void Carry(const Facts& facts);
  void LookAtFiles() ABSL_LOCKS_EXCLUDED(mutex_);
  void Save(std::shared_ptr<void> pass, const ExperimentFacts& facts, ExperimentPlan plan);
  void Do(std::shared_ptr<void> pass, const ExperimentRow& row, const ExperimentPlan& plan);
  void Submit(std::shared_ptr<void> pass, const ExperimentRow& row,
              const liger::v1::Experiment& experiment, int index);
  void Refuse(const std::string& uid, int index, const absl::Status& why)
      ABSL_LOCKS_EXCLUDED(mutex_);

  Store& store_;
  JobService& jobs_;
  const Clock& clock_;
  const Listener changed_;

  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool again_ ABSL_GUARDED_BY(mutex_) = false;
  bool some_active_ ABSL_GUARDED_BY(mutex_) = true;  // until the first pass has looked
  int64_t last_pass_us_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<const Files> files_ ABSL_GUARDED_BY(mutex_) = std::make_shared<Files>();
  bool looking_ ABSL_GUARDED_BY(mutex_) = false;
  // Jobs that could not be submitted, until that is saved: by {uid, index}.
  std::map<std::pair<std::string, int>, std::string> refused_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace liger::server

#endif  // LIGER_SERVER_EXPERIMENTS_EXPERIMENT_LOOP_H_
