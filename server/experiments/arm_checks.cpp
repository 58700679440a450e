#include "server/experiments/arm_checks.h"

#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/spec/enum_names.h"
#include "server/errors/errors.h"
#include "server/experiments/expand.h"

namespace liger::server {
namespace {

using liger::v1::Experiment;
using liger::v1::Violation;

constexpr size_t kMostArmsNamed = 3;

Violation InExperiment(const Violation& violation, const Experiment& experiment,
                       const liger::v1::ExperimentPoint& point) {
  Violation out = violation;
  out.set_field(absl::StrCat("job.", violation.field()));
  for (int i = 0; i < point.values_size(); ++i) {
    const std::string& axis = experiment.spec().grid(i).field();
    if (violation.field() != axis && !absl::StartsWith(violation.field(), axis + ".")) continue;
    out.set_field(absl::StrCat("grid[", i, "].values"));
    out.set_message(
        absl::StrCat("'", point.values(i).value(), "' of ", axis, ": ", violation.message()));
  }
  return out;
}

std::string LabelOf(const liger::v1::JobSpec& job) {
  const auto point = job.labels().find(kPointLabel);
  const std::string kernels = ShortEnumName(
      *liger::v1::KernelMode_descriptor()->FindValueByNumber(job.kernels().mode()));
  return point == job.labels().end() ? kernels : absl::StrCat(point->second, ", ", kernels);
}

// "" of all.
std::string ArmsOf(const std::vector<std::string>& arms, size_t all) {
  if (arms.size() == all) return "";
  const auto named = absl::MakeConstSpan(arms).first(std::min(arms.size(), kMostArmsNamed));
  std::string text = absl::StrJoin(named, "; ");
  if (arms.size() > named.size()) {
    absl::StrAppend(&text, " and ", arms.size() - named.size(), " more");
  }
  return text;
}

}  // namespace

void AddViolations(const std::vector<Violation>& found, const Experiment& experiment,
                   const liger::v1::ExperimentPoint& point, std::vector<Violation>* all) {
  for (const Violation& violation : found) {
    Violation out = InExperiment(violation, experiment, point);
    const bool known = std::any_of(all->begin(), all->end(), [&out](const Violation& other) {
      return other.field() == out.field() && other.message() == out.message();
    });
    if (!known) all->push_back(std::move(out));
  }
}

ArmChecks::ArmChecks(JobService* jobs, const Clock* clock, std::string tenant, std::string actor,
                     Response response, Done done)
    : jobs_(*jobs),
      clock_(*clock),
      tenant_(std::move(tenant)),
      actor_(std::move(actor)),
      until_(clock->Elapsed() + absl::Seconds(kArmChecksSeconds)),
      done_(std::move(done)),
      response_(std::move(response)) {
  const Experiment& experiment = response_.experiment();
  for (int i = 0; i < experiment.jobs_size(); ++i) {
    if (experiment.jobs(i).run() != 0) continue;
    // Prepared already, so it has a spec.
    const auto spec = JobSpecOf(experiment, experiment.jobs(i));
    arms_.push_back({i, spec.ok() ? LabelOf(*spec) : experiment.jobs(i).job_name()});
  }
}

std::function<void()> ArmChecks::Begin() {
  Next();
  return [self = shared_from_this()] { self->GiveUp(); };
}

void ArmChecks::Next() {
  size_t arm;
  JobService::SubmitRequest request{tenant_, actor_, {}, ""};
  {
    absl::MutexLock lock(&mutex_);
    const bool late = clock_.Elapsed() >= until_;
    for (; late && current_ < arms_.size(); ++current_) {
      for (const char* check : {"model", "data"}) Add(check, arms_[current_], &skipped_);
    }
    arm = current_;
    if (arm < arms_.size()) {
      const Experiment& experiment = response_.experiment();
      request.spec = JobSpecOf(experiment, experiment.jobs(arms_[arm].job))
                         .value_or(liger::v1::JobSpec());
    }
  }
  if (arm >= arms_.size()) return Finish();
  auto give_up = jobs_.Validate(std::move(request), [self = shared_from_this(), arm](
                                    const absl::StatusOr<JobService::SubmitResult>& result) {
    self->OnChecked(arm, result);
  });
  {
    absl::MutexLock lock(&mutex_);
    if (current_ != arm) return;  // it has ended
    give_up_ = give_up;
    if (!given_up_) return;
  }
  give_up();
}

void ArmChecks::OnChecked(size_t arm, const absl::StatusOr<JobService::SubmitResult>& result) {
  {
    absl::MutexLock lock(&mutex_);
    current_ = arm + 1;
    give_up_ = nullptr;
    if (result.ok()) {
      if (result->checks_skipped.empty()) ++checked_;
      for (const std::string& check : result->checks_run) Add(check, arms_[arm], &run_);
      for (const std::string& check : result->checks_skipped) Add(check, arms_[arm], &skipped_);
      for (const std::string& notice : result->notices) Add(notice, arms_[arm], &notices_);
      for (const auto& warning : result->warnings) {
        Add(warning.message(), arms_[arm], &notices_);
      }
    } else {
      const Experiment& experiment = response_.experiment();
      AddViolations(ViolationsOf(result.status()), experiment,
                    experiment.points(experiment.jobs(arms_[arm].job).point()), &violations_);
    }
  }
  // What is no fault of the job is told at once.
  if (!result.ok() && ViolationsOf(result.status()).empty()) return Tell(result.status());
  Next();
}

// Lets go of what `done` holds, which may hold this.
void ArmChecks::Tell(absl::StatusOr<Response> outcome) {
  Done done;
  {
    absl::MutexLock lock(&mutex_);
    done = std::exchange(done_, nullptr);
  }
  done(std::move(outcome));
}

void ArmChecks::GiveUp() {
  std::function<void()> give_up;
  {
    absl::MutexLock lock(&mutex_);
    given_up_ = true;
    give_up = give_up_;
  }
  if (give_up) give_up();
}

void ArmChecks::Add(const std::string& text, const Arm& arm, std::vector<Said>* said) {
  auto known = std::find_if(said->begin(), said->end(),
                            [&text](const Said& other) { return other.text == text; });
  if (known == said->end()) known = said->insert(known, {text, {}});
  known->arms.push_back(arm.label);
}

void ArmChecks::Finish() {
  absl::StatusOr<Response> outcome;
  {
    absl::MutexLock lock(&mutex_);
    std::set<std::string> known(response_.notices().begin(), response_.notices().end());
    for (const Said& notice : notices_) {
      if (known.contains(notice.text)) continue;
      const std::string arms = ArmsOf(notice.arms, arms_.size());
      response_.add_notices(absl::StrCat(arms, arms.empty() ? "" : ": ", notice.text));
    }
    for (const Said& check : run_) response_.add_checks_run(check.text);
    for (const Said& check : skipped_) {
      const std::string arms = ArmsOf(check.arms, arms_.size());
      response_.add_checks_skipped(absl::StrCat(check.text, arms.empty() ? "" : " of ", arms));
    }
    response_.add_notices(absl::StrCat("a worker checked ", checked_, " of the ", arms_.size(),
                                       " points and kernel settings"));
    outcome = violations_.empty() ? absl::StatusOr<Response>(response_)
                                  : InvalidArgument(violations_);
  }
  Tell(std::move(outcome));
}

}  // namespace liger::server
