#ifndef LIGER_SERVER_EXPERIMENTS_ARM_CHECKS_H_
#define LIGER_SERVER_EXPERIMENTS_ARM_CHECKS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "liger/v1/experiments.pb.h"
#include "server/jobs/job_service.h"

namespace liger::server {

// The CHECKs of an experiment's dry run: one of each arm, which is a point under a kernel setting
// (its runs differ in nothing that is checked), one after the other, so that other checks find a
// slot. No arm is begun after kArmChecksSeconds; those left are named as not checked. Thread-safe.
class ArmChecks : public std::enable_shared_from_this<ArmChecks> {
 public:
  using Response = liger::v1::CreateExperimentResponse;
  using Done = std::function<void(absl::StatusOr<Response>)>;

  // `response` has the experiment and what is known of it. `jobs` and `clock` outlive the calls
  // of `done` and of what Begin returns.
  ArmChecks(JobService* jobs, const Clock* clock, std::string tenant, std::string actor,
            Response response, Done done);

  // Calls `done` once: with what the checks ran and said, INVALID_ARGUMENT with every field that
  // they found wrong, in the experiment's terms, or the error of a check that came to no result.
  // What it returns gives them up.
  std::function<void()> Begin();

 private:
  struct Arm {
    int job = 0;        // index into Experiment.jobs
    std::string label;  // "max_length 64, LIGER"
  };
  // Something that checks said, and the arms of which.
  struct Said {
    std::string text;
    std::vector<std::string> arms;
  };

  void Next() ABSL_LOCKS_EXCLUDED(mutex_);
  void OnChecked(size_t arm, const absl::StatusOr<JobService::SubmitResult>& result)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void GiveUp() ABSL_LOCKS_EXCLUDED(mutex_);
  void Finish() ABSL_LOCKS_EXCLUDED(mutex_);
  void Tell(absl::StatusOr<Response> outcome) ABSL_LOCKS_EXCLUDED(mutex_);
  static void Add(const std::string& text, const Arm& arm, std::vector<Said>* said);

  JobService& jobs_;
  const Clock& clock_;
  const std::string tenant_, actor_;
  const absl::Duration until_;
  std::vector<Arm> arms_;

  absl::Mutex mutex_;
  Done done_ ABSL_GUARDED_BY(mutex_);
  Response response_ ABSL_GUARDED_BY(mutex_);
  size_t current_ ABSL_GUARDED_BY(mutex_) = 0;  // the arm that is checked, or is to be
  bool given_up_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> give_up_ ABSL_GUARDED_BY(mutex_);  // the check of that arm
  size_t checked_ ABSL_GUARDED_BY(mutex_) = 0;             // on a worker
  std::vector<Said> run_ ABSL_GUARDED_BY(mutex_), skipped_ ABSL_GUARDED_BY(mutex_),
      notices_ ABSL_GUARDED_BY(mutex_);
  std::vector<liger::v1::Violation> violations_ ABSL_GUARDED_BY(mutex_);
};

// A client waits 150 s for a dry run, of which the last check may take 60.
inline constexpr int64_t kArmChecksSeconds = 80;

// What is wrong with the job of one point, in the experiment's terms: a field of the grid is the
// axis' value, another one the template's. The same of several points is added once.
void AddViolations(const std::vector<liger::v1::Violation>& found,
                   const liger::v1::Experiment& experiment,
                   const liger::v1::ExperimentPoint& point,
                   std::vector<liger::v1::Violation>* all);

}  // namespace liger::server

#endif  // LIGER_SERVER_EXPERIMENTS_ARM_CHECKS_H_
