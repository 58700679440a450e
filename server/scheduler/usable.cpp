#include "server/scheduler/usable.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/plural.h"

namespace liger::server {
namespace {

template <typename Predicate>
std::vector<const WorkerRow*> Those(const std::vector<const WorkerRow*>& workers, Predicate keep) {
  std::vector<const WorkerRow*> kept;
  std::copy_if(workers.begin(), workers.end(), std::back_inserter(kept),
               [&keep](const WorkerRow* worker) { return keep(worker->worker_id); });
  return kept;
}

// Why a worker that is there gets nothing, whatever the job; empty: it may get something.
std::string_view WhyNothing(const ScheduleSnapshot& snapshot, const std::string& id,
                            const std::set<std::string>& offered) {
  const auto unfit = snapshot.unfit.find(id);
  if (unfit != snapshot.unfit.end()) return unfit->second;
  const auto resting = snapshot.resting.find(id);
  if (resting != snapshot.resting.end()) return resting->second;
  const bool probed = snapshot.probing.contains(id) && offered.contains(id);
  return probed ? "it failed what it got before, and one task tries it now" : "";
}

bool Refused(const ScheduleSnapshot& snapshot, const std::string& job_uid,
             const std::vector<const WorkerRow*>& workers) {
  return std::any_of(workers.begin(), workers.end(), [&](const WorkerRow* worker) {
    return snapshot.excluded.contains({job_uid, worker->worker_id});
  });
}

}  // namespace

std::vector<const WorkerRow*> Usable(const ScheduleSnapshot& snapshot, const std::string& job_uid,
                                     const std::vector<const WorkerRow*>& workers,
                                     const std::set<std::string>& offered) {
  return Those(workers, [&](const std::string& id) {
    return !snapshot.unavailable.contains(id) && WhyNothing(snapshot, id, offered).empty() &&
           !snapshot.excluded.contains({job_uid, id});
  });
}

bool TakesNothing(const ScheduleSnapshot& snapshot, const std::string& worker_id) {
  return snapshot.unfit.contains(worker_id) || snapshot.resting.contains(worker_id);
}

std::vector<const WorkerRow*> Fit(const ScheduleSnapshot& snapshot,
                                  const std::vector<const WorkerRow*>& workers) {
  return Those(workers, [&](const std::string& id) { return !snapshot.unfit.contains(id); });
}

std::vector<const WorkerRow*> Trusted(const ScheduleSnapshot& snapshot, const std::string& job_uid,
                                      const std::vector<const WorkerRow*>& workers) {
  return Those(workers, [&](const std::string& id) {
    return !snapshot.failed_on.contains({job_uid, id});
  });
}

bool Yields(const ScheduleSnapshot& snapshot, const JobRow& job) {
  if (snapshot.probing.empty()) return false;
  const auto first = snapshot.failed_on.lower_bound({job.uid, ""});
  return first != snapshot.failed_on.end() && first->first == job.uid;
}

std::vector<std::string> Obstacles(const ScheduleSnapshot& snapshot, const std::string& job_uid,
                                   const std::vector<const WorkerRow*>& workers,
                                   const std::set<std::string>& offered) {
  std::vector<std::string> obstacles;
  for (const WorkerRow* worker : workers) {
    const auto refusal = snapshot.excluded.find({job_uid, worker->worker_id});
    const std::string why(WhyNothing(snapshot, worker->worker_id, offered));
    if (refusal != snapshot.excluded.end()) {
      obstacles.push_back(refusal->second);
    } else if (!why.empty()) {
      obstacles.push_back(absl::StrCat("worker ", worker->worker_id, " takes no tasks: ", why));
    }
  }
  return obstacles;
}

WaitDecision WaitForWorkers(const ScheduleSnapshot& snapshot, const std::string& job_uid,
                            const std::vector<const WorkerRow*>& able,
                            const std::set<std::string>& offered) {
  WaitDecision wait{.job_uid = job_uid};
  const std::string obstacles = absl::StrJoin(Obstacles(snapshot, job_uid, able, offered), "; ");
  if (Refused(snapshot, job_uid, able)) {
    wait.reason = "WorkerRefused";
    wait.message = absl::StrCat(obstacles, "; it will be tried again");
  } else if (!obstacles.empty()) {
    wait.reason = "WorkerUnfit";
    wait.message = obstacles;
    wait.action = "mend the worker (liger-cli workers), or start another one";
  } else {
    const std::vector<const WorkerRow*> away =
        Those(able, [&](const std::string& id) { return snapshot.unavailable.contains(id); });
    wait.reason = "WorkerAway";
    wait.message =
        absl::StrCat("waits for ",
                     away.size() == 1 ? absl::StrCat("worker ", away.front()->worker_id)
                                      : Plural(static_cast<int64_t>(away.size()), "worker"),
                     " to connect again");
  }
  return wait;
}

}  // namespace liger::server
