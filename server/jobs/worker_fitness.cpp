#include "server/jobs/worker_fitness.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/jobs/failure_policy.h"
#include "server/jobs/job_service_impl.h"

namespace liger::server {
namespace {

// Whether the attempt's end is this member's doing.
bool BrokeIt(const MemberRow& member, const AttemptRow& attempt, size_t members) {
  if (member.exit.has_value() && member.exit->free) return false;  // stopped in order
  if (members == 1) return true;
  if (attempt.first_failed_rank < 0) return !member.exit.has_value();  // it was lost
  return std::find(member.ranks.begin(), member.ranks.end(), attempt.first_failed_rank) !=
         member.ranks.end();
}

// A job's on one worker.
struct Failures {
  int count = 0;
  int64_t last_us = 0;

  void Note(int64_t when_us) {
    ++count;
    last_us = std::max(last_us, when_us);
  }
  bool Lately(int64_t now_us) const {
    // A clock that was set back makes nothing late.
    const int64_t ago = now_us - last_us;
    const int64_t long_ago = kFailedLatelyUs << std::min(count - 1, 10);
    return ago >= 0 && ago < std::min(kLongestFailedLatelyUs, long_ago);
  }
};

void NoteAttempts(const ReadView& view, const JobRow& job,
                  std::map<std::string, Failures>* failed) {
  for (const AttemptRow& attempt : view.Attempts(job.uid)) {
    const bool broke =
        attempt.state == AttemptState::kFailed || attempt.state == AttemptState::kLost;
    if (!broke || !WorthRetrying(attempt.failure_class)) continue;
    const std::vector<MemberRow> members = view.Members(job.uid, attempt.epoch);
    for (const MemberRow& member : members) {
      if (!BrokeIt(member, attempt, members.size())) continue;
      (*failed)[member.worker_id].Note(attempt.ended_us);
    }
  }
}

}  // namespace

void FillFitness(ServiceState* state, ScheduleSnapshot* snapshot) {
  const int64_t now = absl::ToInt64Microseconds(state->options.clock->Elapsed());
  snapshot->resting = state->health.Resting(now);
  snapshot->probing = state->health.Probing(now);
  state->fleet.Call([&](FleetPort& fleet) {
    for (const WorkerRow& worker : snapshot->workers) {
      // What was known before it went is not what the jobs wait for.
      const bool there = worker.state == WorkerState::kReady && !worker.cordoned &&
                         !snapshot->unavailable.contains(worker.worker_id);
      if (!there) {
        snapshot->resting.erase(worker.worker_id);
        snapshot->probing.erase(worker.worker_id);
        continue;
      }
      std::string why = fleet.WhyUnfit(worker.worker_id);
      if (!why.empty()) snapshot->unfit[worker.worker_id] = std::move(why);
    }
  });
}

void FillFailures(const ReadView& view, const JobRow& job, const std::vector<TaskRow>& checks,
                  int64_t now_us, ScheduleSnapshot* snapshot) {
  std::map<std::string, Failures> failed;
  for (const TaskRow& task : checks) {
    if (task.state == TaskState::kLost) failed[task.worker_id].Note(task.created_us);
  }
  if (job.restarts > 0) NoteAttempts(view, job, &failed);
  for (const auto& [worker_id, failures] : failed) {
    snapshot->failed_on.insert({job.uid, worker_id});
    if (failures.Lately(now_us)) snapshot->failed_lately.insert(job.uid);
  }
}

void JobService::Impl::OnFitness(const std::string& worker_id, const std::string& unfit) {
  std::fprintf(stderr, "liger-coordinator: worker %s %s%s\n", worker_id.c_str(),
               unfit.empty() ? "takes tasks again" : "takes no tasks: ", unfit.c_str());
  loop_->Request();
}

}  // namespace liger::server
