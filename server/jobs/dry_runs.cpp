#include "server/jobs/dry_runs.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/spec/violations.h"
#include "server/errors/errors.h"
#include "server/jobs/failure_policy.h"

namespace liger::server {
namespace {

// What the user can mend is about the request; all else is about the worker.
absl::Status WithoutResult(const liger::v1::Failure& failure) {
  if (failure.class_() == liger::v1::FAILURE_CLASS_CONFIG ||
      failure.class_() == liger::v1::FAILURE_CLASS_DATA) {
    return InvalidArgument(std::vector<liger::v1::Violation>{ToViolation(failure)});
  }
  return absl::UnavailableError(absl::StrCat("the check ended without a result",
                                             failure.message().empty() ? "" : ": ",
                                             failure.message()));
}

}  // namespace

liger::trainer::v1::Ref DryRuns::RefOf(const std::string& id) {
  liger::trainer::v1::Ref ref;
  ref.set_task_id(id);
  return ref;
}

void DryRuns::Add(const std::string& id, const std::string& worker_id, int64_t deadline_us,
                  Done done) {
  absl::Status closed;
  {
    absl::MutexLock lock(&mutex_);
    closed = closed_;
    if (closed.ok()) runs_[id] = {worker_id, deadline_us, std::move(done)};
  }
  if (!closed.ok()) done(closed);
}

bool DryRuns::Contains(const std::string& id) const {
  absl::MutexLock lock(&mutex_);
  return runs_.contains(id);
}

std::vector<TaskRow> DryRuns::Running() const {
  absl::MutexLock lock(&mutex_);
  std::vector<TaskRow> tasks;
  for (const auto& [id, run] : runs_) {
    TaskRow& task = tasks.emplace_back();
    task.task_id = id;
    task.worker_id = run.worker_id;
  }
  return tasks;
}

std::optional<DryRuns::Run> DryRuns::Take(const std::string& id) {
  absl::MutexLock lock(&mutex_);
  const auto found = runs_.find(id);
  if (found == runs_.end()) return std::nullopt;
  Run run = std::move(found->second);
  runs_.erase(found);
  return run;
}

bool DryRuns::OnEvent(const liger::worker::v1::TaskEvent& event) {
  if (!event.has_check_result() && !event.has_exited()) return false;
  std::optional<Run> run = Take(event.ref().task_id());
  if (!run.has_value()) return false;
  if (event.has_check_result()) {
    run->done(event.check_result());
  } else {
    run->done(WithoutResult(ClassifyExit(event.exited()).failure));
  }
  return true;
}

std::string DryRuns::Fail(const std::string& id, const absl::Status& status) {
  std::optional<Run> run = Take(id);
  if (!run.has_value()) return "";
  run->done(status);
  return run->worker_id;
}

void DryRuns::FailUnowned(const liger::worker::v1::Hello& hello) {
  std::set<std::string> gone;
  for (const TaskRow& task : Running()) {
    if (task.worker_id == hello.worker_id()) gone.insert(task.task_id);
  }
  for (const auto& owned : hello.owned()) {
    if (IsDryRun(owned.ref())) gone.erase(owned.ref().task_id());
  }
  for (const std::string& id : gone) {
    Fail(id, absl::UnavailableError(absl::StrCat("worker ", hello.worker_id(),
                                                 " came back without the check; try again")));
  }
}

void DryRuns::FailWorker(const std::string& worker_id, const absl::Status& status) {
  for (const TaskRow& task : Running()) {
    if (task.worker_id == worker_id) Fail(task.task_id, status);
  }
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
    closed_ = status;
    runs.swap(runs_);
  }
  for (auto& [id, run] : runs) run.done(status);
}

}  // namespace liger::server
