#include "server/jobs/dry_runs.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/jobs/failure_policy.h"

namespace liger::server {

liger::trainer::v1::Ref DryRuns::RefOf(const std::string& id) {
  liger::trainer::v1::Ref ref;
  ref.set_task_id(id);
  return ref;
}

void DryRuns::Add(const std::string& id, const std::string& worker_id, int64_t deadline_us,
                  Done done) {
  absl::MutexLock lock(&mutex_);
  runs_[id] = {worker_id, deadline_us, std::move(done)};
}

bool DryRuns::Contains(const std::string& id) const {
  absl::MutexLock lock(&mutex_);
  return runs_.contains(id);
}

std::optional<DryRuns::Run> DryRuns::Take(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  const auto found = runs_.find(id);
  if (found == runs_.end()) return std::nullopt;
  Run run = std::move(found->second);
  runs_.erase(found);
  return run;
}

void DryRuns::OnEvent(const liger::worker::v1::TaskEvent& event) {
  if (event.has_check_result()) {
    if (std::optional<Run> run = Take(event.ref().task_id())) run->done(event.check_result());
  } else if (event.has_exited()) {
    const std::string message = ClassifyExit(event.exited()).failure.message();
    Fail(event.ref().task_id(),
         absl::UnavailableError(absl::StrCat("the check ended without a result",
                                             message.empty() ? "" : ": ", message)));
  }
}

void DryRuns::Fail(const std::string& id, const absl::Status& status) {
  if (std::optional<Run> run = Take(id)) run->done(status);
}

void DryRuns::FailWorker(const std::string& worker_id, const absl::Status& status) {
  std::vector<std::string> ids;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, run] : runs_) {
      if (run.worker_id == worker_id) ids.push_back(id);
    }
  }
  for (const std::string& id : ids) Fail(id, status);
}

std::vector<std::pair<std::string, liger::trainer::v1::Ref>> DryRuns::Expire(int64_t now_us) {
  std::vector<std::pair<std::string, liger::trainer::v1::Ref>> expired;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, run] : runs_) {
      if (run.deadline_us <= now_us) expired.emplace_back(run.worker_id, RefOf(id));
    }
  }
  for (const auto& [worker_id, ref] : expired) {
    Fail(ref.task_id(),
         absl::DeadlineExceededError(absl::StrCat("worker ", worker_id,
                                                  " did not finish the check in time; submit the "
                                                  "job to have it checked in full")));
  }
  return expired;
}

void DryRuns::FailAll(const absl::Status& status) {
  std::map<std::string, Run> runs;
  {
    absl::MutexLock lock(&mutex_);
    runs.swap(runs_);
  }
  for (auto& [id, run] : runs) run.done(status);
}

}  // namespace liger::server
