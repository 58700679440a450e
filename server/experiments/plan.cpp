#include "server/experiments/plan.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/spec/violations.h"
#include "server/experiments/expand.h"

namespace liger::server {
namespace {

constexpr char kNoKey[] = "-";

using liger::v1::Experiment;
using liger::v1::ExperimentJob;
using liger::v1::JobStatus;

bool IsResult(ExperimentJob::Outcome outcome) {
  return outcome == ExperimentJob::SUCCEEDED || outcome == ExperimentJob::OUT_OF_MEMORY;
}

bool IsOpen(ExperimentJob::Outcome outcome) {
  return outcome == ExperimentJob::PENDING || outcome == ExperimentJob::ACTIVE;
}

int CountOutcome(const Experiment& experiment, ExperimentJob::Outcome outcome) {
  return static_cast<int>(
      std::count_if(experiment.jobs().begin(), experiment.jobs().end(),
                    [outcome](const ExperimentJob& job) { return job.outcome() == outcome; }));
}

// What the jobs of one turn are: begun or not, and which of them is next.
struct Turn {
  int next = -1;  // the first PENDING job
  bool active = false;
  bool begun = false;  // some job is not PENDING
  bool under_way() const { return begun && (next >= 0 || active); }
};

Turn TurnAt(const Experiment& experiment, int begin) {
  Turn turn;
  for (int i = begin; i < begin + experiment.spec().kernels_size(); ++i) {
    const auto outcome = experiment.jobs(i).outcome();
    if (outcome == ExperimentJob::PENDING && turn.next < 0) turn.next = i;
    turn.active |= outcome == ExperimentJob::ACTIVE;
    turn.begun |= outcome != ExperimentJob::PENDING;
  }
  return turn;
}

int TurnsUnderWay(const Experiment& experiment) {
  int count = 0;
  for (int begin = 0; begin < experiment.jobs_size(); begin += experiment.spec().kernels_size()) {
    if (TurnAt(experiment, begin).under_way()) ++count;
  }
  return count;
}

class Planner {
 public:
  Planner(const ExperimentFacts& facts, int64_t now_us) : facts_(facts), now_us_(now_us) {
    plan_.experiment = facts.row.experiment;
  }

  ExperimentPlan Run() {
    for (int i = 0; i < plan_.experiment.jobs_size(); ++i) Observe(i);
    if (plan_.experiment.state() == Experiment::CANCELLING) {
      Cancel();
    } else {
      Start();
      SayWhatItWaitsFor();
      FinishIfDone();
    }
    return std::move(plan_);
  }

 private:
  ExperimentJob& job(int index) { return *plan_.experiment.mutable_jobs(index); }
  int turn_size() const { return plan_.experiment.spec().kernels_size(); }

  void Observe(int index) {
    ExperimentJob& entry = job(index);
    if (!IsOpen(entry.outcome())) return;
    const auto found = facts_.jobs.find(index);
    if (found == facts_.jobs.end()) {
      if (entry.outcome() == ExperimentJob::ACTIVE) Conclude(index, "the job is gone");
      if (const auto why = facts_.refused.find(index); why != facts_.refused.end()) {
        Conclude(index, why->second);
      }
      return;
    }
    const JobRow& row = found->second;
    if (entry.outcome() == ExperimentJob::PENDING) {
      entry.set_outcome(ExperimentJob::ACTIVE);
      entry.set_job_uid(row.uid);
      plan_.changed = true;
    }
    if (OutcomeOf(row) != ExperimentJob::ACTIVE) End(index, row);
  }

  void End(int index, const JobRow& row) {
    ExperimentJob& entry = job(index);
    entry.set_outcome(OutcomeOf(row));
    entry.set_message(entry.outcome() == ExperimentJob::SUCCEEDED ? "" : row.status.message());
    plan_.changed = true;
    const auto key = facts_.keys.find(index);
    const bool reusable = IsReusable(row) && key != facts_.keys.end() && !key->second.empty() &&
                          entry.spec_hash() == row.spec_hash;
    entry.set_result_key(reusable ? key->second : kNoKey);
    if (reusable) plan_.results.push_back({facts_.row.tenant, key->second, row.uid, now_us_});
    if (!plan_.experiment.spec().keep_outputs()) plan_.reclaim_jobs.push_back(row.uid);
  }

  void Conclude(int index, const std::string& why) {
    job(index).set_outcome(ExperimentJob::FAILED);
    job(index).set_message(why);
    plan_.changed = true;
  }

  void Cancel() {
    bool active = false;
    for (ExperimentJob& entry : *plan_.experiment.mutable_jobs()) {
      if (entry.outcome() == ExperimentJob::PENDING) {
        entry.set_outcome(ExperimentJob::CANCELLED);
        plan_.changed = true;
      } else if (entry.outcome() == ExperimentJob::ACTIVE) {
        active = true;
        plan_.cancel.push_back(entry.job_uid());
      }
    }
    if (!active) Finish(Experiment::CANCELLED, plan_.experiment.message(), "");
  }

  // Turns that have begun go on; then further ones begin, up to the limit.
  void Start() {
    for (int begin = 0; begin < plan_.experiment.jobs_size(); begin += turn_size()) {
      const Turn turn = TurnAt(plan_.experiment, begin);
      if (turn.under_way() && !turn.active) plan_.submit.push_back(turn.next);
    }
    int under_way = TurnsUnderWay(plan_.experiment);
    for (int begin = 0; begin < plan_.experiment.jobs_size(); begin += turn_size()) {
      if (under_way >= plan_.experiment.spec().max_concurrent_jobs()) return;
      if (TurnAt(plan_.experiment, begin).begun) continue;
      if (!facts_.earlier.contains(begin)) return;
      if (TakeEarlier(begin)) continue;
      plan_.submit.push_back(begin);
      ++under_way;
    }
  }

  // All jobs of a turn, or none: a comparison's two sides ran side by side, in one
  // turn of an earlier experiment and on the same devices.
  bool TakeEarlier(int begin) {
    if (!plan_.experiment.spec().reuse_results()) return false;
    std::set<std::string> taken;
    for (const ExperimentJob& entry : plan_.experiment.jobs()) taken.insert(entry.job_uid());
    const auto firsts = facts_.earlier.find(begin);
    if (firsts == facts_.earlier.end()) return false;
    for (const EarlierResult& first : firsts->second) {
      const std::map<int, const JobRow*> found = SideBySide(begin, first, taken);
      if (static_cast<int>(found.size()) < turn_size()) continue;
      Take(found);
      return true;
    }
    return false;
  }

  // What ran beside `first` for the jobs of the turn, by index; fewer if some did not.
  std::map<int, const JobRow*> SideBySide(int begin, const EarlierResult& first,
                                          const std::set<std::string>& taken) const {
    std::map<int, const JobRow*> found;
    if (taken.contains(first.job.uid)) return found;
    found[begin] = &first.job;
    const int kernels = plan_.experiment.spec().kernels_size();
    const std::string turn = TurnOfJob(first.job.name, kernels);
    for (int i = begin + 1; i < begin + kernels; ++i) {
      const auto earlier = facts_.earlier.find(i);
      if (earlier == facts_.earlier.end()) break;
      for (const EarlierResult& other : earlier->second) {
        if (taken.contains(other.job.uid) || turn.empty() ||
            TurnOfJob(other.job.name, kernels) != turn ||
            other.device_uuids != first.device_uuids) {
          continue;
        }
        found[i] = &other.job;
        break;
      }
    }
    return found;
  }

  void Take(const std::map<int, const JobRow*>& found) {
    for (const auto& [index, row] : found) {
      ExperimentJob& entry = job(index);
      entry.set_job_uid(row->uid);
      entry.set_job_name(row->name);
      entry.set_outcome(OutcomeOf(*row));
      entry.set_cached(true);
      if (entry.outcome() != ExperimentJob::SUCCEEDED) entry.set_message(row->status.message());
    }
    plan_.changed = true;
  }

  // A job that a user has paused keeps its turn, and its place among those at once.
  void SayWhatItWaitsFor() {
    std::vector<std::string> paused;
    for (const auto& [index, row] : facts_.jobs) {
      if (row.state == JobStatus::PAUSED) paused.push_back(row.name);
    }
    std::string message, action;
    if (!paused.empty()) {
      message = absl::StrCat("paused on request, and waited for: ", absl::StrJoin(paused, ", "));
      action = absl::StrCat("liger-cli resume ", paused.front());
    } else if (facts_.no_worker) {
      message = "waits for a worker that can run it, and may have run it before";
      action = "start one, or see liger-cli workers";
    }
    if (plan_.experiment.message() == message) return;
    plan_.experiment.set_message(message);
    plan_.experiment.set_action(action);
    plan_.changed = true;
  }

  void FinishIfDone() {
    const Experiment& experiment = plan_.experiment;
    if (experiment.state() != Experiment::RUNNING || facts_.steps_pending) return;
    if (CountOutcome(experiment, ExperimentJob::PENDING) > 0) return;
    if (CountOutcome(experiment, ExperimentJob::ACTIVE) > 0) return;
    const int total = experiment.jobs_size();
    const int oom = CountOutcome(experiment, ExperimentJob::OUT_OF_MEMORY);
    const int results = CountOutcome(experiment, ExperimentJob::SUCCEEDED) + oom;
    std::string message = absl::StrCat(results, " of ", total, " jobs gave a result");
    if (oom > 0) absl::StrAppend(&message, ", ", oom, " of these by running out of memory");
    if (results + 1e-9 >= experiment.spec().min_success_share() * total) {
      return Finish(Experiment::SUCCEEDED, message, "");
    }
    const double needed = experiment.spec().min_success_share() * total;
    absl::StrAppend(&message, "; ", static_cast<int>(std::ceil(needed - 1e-9)),
                    " are needed (min_success_share: ",
                    absl::StrFormat("%g", experiment.spec().min_success_share()), ")");
    for (const ExperimentJob& entry : experiment.jobs()) {
      if (IsResult(entry.outcome())) continue;
      absl::StrAppend(&message, "; ", entry.job_name(), ": ", entry.message());
      break;
    }
    Finish(Experiment::FAILED, message,
           "mend the cause and submit it under another name: what has a result is not run again");
  }

  void Finish(Experiment::State state, const std::string& message, const std::string& action) {
    plan_.experiment.set_state(state);
    plan_.experiment.set_message(message);
    plan_.experiment.set_action(action);
    *plan_.experiment.mutable_end_time() = ToTimestamp(now_us_);
    plan_.changed = true;
  }

  const ExperimentFacts& facts_;
  const int64_t now_us_;
  ExperimentPlan plan_;
};

}  // namespace

ExperimentPlan PlanExperiment(const ExperimentFacts& facts, int64_t now_us) {
  return Planner(facts, now_us).Run();
}

std::vector<int> NextJobs(const Experiment& experiment) {
  std::vector<int> next;
  if (experiment.state() != Experiment::RUNNING) return next;
  const int size = experiment.spec().kernels_size();
  int turns = experiment.spec().max_concurrent_jobs() - TurnsUnderWay(experiment);
  for (int begin = 0; begin < experiment.jobs_size() && turns > 0; begin += size) {
    if (TurnAt(experiment, begin).begun) continue;
    --turns;
    for (int i = begin; i < begin + size; ++i) next.push_back(i);
  }
  return next;
}

ExperimentJob::Outcome OutcomeOf(const JobRow& job) {
  if (job.state == JobStatus::SUCCEEDED) return ExperimentJob::SUCCEEDED;
  if (job.state == JobStatus::CANCELLED) return ExperimentJob::CANCELLED;
  if (job.state != JobStatus::FAILED) return ExperimentJob::ACTIVE;
  const auto failure = job.status.failure().class_();
  const bool memory = failure == liger::v1::FAILURE_CLASS_OOM_DEVICE ||
                      failure == liger::v1::FAILURE_CLASS_OOM_HOST;
  return memory ? ExperimentJob::OUT_OF_MEMORY : ExperimentJob::FAILED;
}

bool IsReusable(const JobRow& job) {
  return IsResult(OutcomeOf(job)) &&
         job.status.failure().class_() != liger::v1::FAILURE_CLASS_OOM_HOST;
}

std::map<std::string, Pin> PinsOf(const ReadView& view) {
  std::map<std::string, Pin> pins;
  for (const ExperimentRow& row : view.ActiveExperiments()) {
    const Experiment& experiment = row.experiment;
    const int size = experiment.spec().kernels_size();
    for (int i = 0; i < experiment.jobs_size(); ++i) {
      if (!IsOpen(experiment.jobs(i).outcome())) continue;
      const std::optional<JobRow> waiting =
          view.JobByName(row.tenant, experiment.jobs(i).job_name());
      if (!waiting.has_value() || !AwaitsPlacement(waiting->state)) continue;
      const int begin = TurnBegin(experiment, i);
      for (int other = begin; other < begin + size; ++other) {
        if (other == i || experiment.jobs(other).job_uid().empty()) continue;
        const std::optional<JobRow> before = view.Job(experiment.jobs(other).job_uid());
        if (!before.has_value()) continue;
        for (const MemberRow& member : view.Members(before->uid, before->epoch)) {
          pins[waiting->uid] = {member.worker_id, member.device_uuids};
        }
      }
    }
  }
  return pins;
}

}  // namespace liger::server
