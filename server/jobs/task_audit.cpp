#include "server/jobs/task_audit.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "server/jobs/dry_runs.h"
#include "server/jobs/task_key.h"
#include "server/store/attempts.h"

namespace liger::server {
namespace {

using liger::trainer::v1::Ref;

// That the worker should let go of it. What has ended and is only still being
// told stays.
bool IsUnknown(const ReadView& view, const std::string& worker_id, const Ref& ref) {
  if (ref.epoch() == 0) {
    const std::optional<TaskRow> task = view.Task(ref.task_id());
    return !task.has_value() || task->worker_id != worker_id;
  }
  const std::optional<JobRow> job = view.Job(ref.job_uid());
  const std::optional<AttemptRow> attempt = view.Attempt(ref.job_uid(), ref.epoch());
  if (!job.has_value() || !attempt.has_value()) return true;
  const std::vector<MemberRow> members = view.Members(ref.job_uid(), ref.epoch());
  const auto member = std::find_if(members.begin(), members.end(), [&](const MemberRow& row) {
    return row.worker_id == worker_id;
  });
  if (member == members.end()) return true;
  return member->released_us == 0 && !IsCurrent(*job, *attempt);
}

}  // namespace

TaskDifferences CompareTasks(const ReadView& view, const std::string& worker_id,
                             const std::vector<Ref>& listed) {
  TaskDifferences differences;
  for (const MemberRow& member : view.UnreleasedMembers(worker_id)) {
    differences.missing.insert(KeyOf(TrainRef(member.job_uid, member.epoch)));
  }
  for (const TaskRow& task : view.RunningTasks()) {
    if (task.worker_id == worker_id) differences.missing.insert(KeyOf(CheckRef(task)));
  }
  for (const Ref& ref : listed) {
    differences.missing.erase(KeyOf(ref));
    if (!DryRuns::IsDryRun(ref) && IsUnknown(view, worker_id, ref)) {
      differences.unknown.push_back(ref);
    }
  }
  return differences;
}

bool TaskAudit::Due(const std::string& worker_id, int64_t now_us) {
  absl::MutexLock lock(&mutex_);
  int64_t& compared_us = workers_[worker_id].compared_us;
  if (now_us - compared_us < kIntervalUs) return false;
  compared_us = now_us;
  return true;
}

bool TaskAudit::Lasts(const std::string& worker_id, const std::set<std::string>& missing,
                      int64_t now_us) {
  absl::MutexLock lock(&mutex_);
  auto& since = workers_[worker_id].missing_since_us;
  std::erase_if(since, [&](const auto& entry) { return !missing.contains(entry.first); });
  for (const std::string& key : missing) since.try_emplace(key, now_us);
  const bool lasts = std::any_of(since.begin(), since.end(), [&](const auto& entry) {
    return now_us - entry.second >= kPatienceUs;
  });
  if (lasts) since.clear();
  return lasts;
}

void TaskAudit::Forget(const std::string& worker_id) {
  absl::MutexLock lock(&mutex_);
  workers_.erase(worker_id);
}

}  // namespace liger::server
