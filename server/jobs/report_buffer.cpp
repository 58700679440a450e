#include "server/jobs/report_buffer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/strip.h"
#include "server/jobs/failure_policy.h"

namespace liger::server {
namespace {

using liger::worker::v1::TaskEvent;

// "TRAINING" for PHASE_TRAINING.
std::string PhaseName(liger::trainer::v1::Phase phase) {
  return std::string(absl::StripPrefix(liger::trainer::v1::Phase_Name(phase), "PHASE_"));
}

// The agent thins steps to 1 Hz, so the time of those between two reports is
// taken to be that of the last.
void AddStep(const TaskEvent& event, double* train_seconds, liger::v1::Progress* progress) {
  const liger::trainer::v1::Step& step = event.progress().step();
  const int64_t steps = std::max<int64_t>(0, step.step() - progress->step());
  *train_seconds += static_cast<double>(steps) * step.step_seconds();
  progress->set_step(step.step());
  progress->set_max_steps(step.max_steps());
  progress->set_epoch(step.epoch());
  progress->set_tokens_total(step.tokens_total());
  progress->set_tokens_per_second(step.tokens_per_second());
  progress->set_step_seconds(step.step_seconds());
  if (*train_seconds > 0) {
    const double left = static_cast<double>(std::max<int64_t>(0, step.max_steps() - step.step()));
    progress->set_mean_tokens_per_second(static_cast<double>(step.tokens_total()) / *train_seconds);
    progress->set_eta_seconds(left * *train_seconds / static_cast<double>(step.step()));
  }
  *progress->mutable_values() = step.values();
  for (const auto& [kind, bytes] : event.progress().peak_memory_bytes()) {
    (*progress->mutable_peak_memory_bytes())[kind] = bytes;
  }
  for (const auto& [kind, bytes] : event.progress().predicted_memory_bytes()) {
    (*progress->mutable_predicted_memory_bytes())[kind] = bytes;
  }
  *progress->mutable_update_time() = event.time();
}

}  // namespace

ReportBuffer::Key ReportBuffer::KeyOf(const std::string& worker_id,
                                      const liger::trainer::v1::Ref& ref) {
  return {worker_id, ref.job_uid(), ref.epoch(), ref.task_id()};
}

ReportBuffer::Added ReportBuffer::Add(const std::string& worker_id, const TaskEvent& event) {
  auto [entry, first] = tasks_.try_emplace(KeyOf(worker_id, event.ref()));
  Task& task = entry->second;
  if (first) task.through_seq = event.seq() - 1;
  if (event.seq() <= task.through_seq) return {.repeated = true};
  // A session may begin with a publish request that was known before, and go on
  // behind it: with nothing to merge, the store says what is missing.
  const bool alone = !task.waiting.has_value() && task.returned.empty();
  if (event.seq() > task.through_seq + 1 && !alone) return {.gap = true};
  task.through_seq = event.seq();
  if (!task.waiting.has_value()) {
    task.waiting.emplace();
    task.waiting->worker_id = worker_id;
    task.waiting->ref = event.ref();
    task.waiting->first_seq = event.seq();
    task.waiting->max_restarts = max_restarts_;
  }
  task.waiting->through_seq = event.seq();
  Added added;
  if (Merge(event, &task)) {
    ReportTask report = *std::exchange(task.waiting, std::nullopt);
    if (task.returned.empty()) {
      added.ready = std::move(report);
    } else {
      task.returned.push_back(std::move(report));  // behind what came back
    }
  }
  return added;
}

// True when the event must not wait.
bool ReportBuffer::Merge(const TaskEvent& event, Task* task) {
  ReportTask& report = *task->waiting;
  switch (event.event_case()) {
    case TaskEvent::kStarted: {
      const auto& kernels = event.started().ready().kernels_ran();
      report.started = true;
      report.kernels_ran = {kernels.begin(), kernels.end()};
      report.ready = event.started().ready();
      report.communication.insert(event.started().communication().begin(),
                                  event.started().communication().end());
      return true;
    }
    case TaskEvent::kPhase:
      task->progress.set_phase(PhaseName(event.phase().phase()));
      *task->progress.mutable_update_time() = event.time();
      report.progress = task->progress;
      return false;
    case TaskEvent::kProgress:
      if (event.progress().has_step()) AddStep(event, &task->train_seconds, &task->progress);
      if (event.progress().ranks_size() > 0) {
        *task->progress.mutable_ranks() = event.progress().ranks();
      }
      report.progress = task->progress;
      return false;
    case TaskEvent::kEval:
      report.evaluations.push_back(event.eval());
      return false;
    case TaskEvent::kSample:
      report.samples.push_back(event.sample());
      return false;
    case TaskEvent::kInputs:
      report.inputs = event.inputs();
      return false;
    case TaskEvent::kWarning:
      report.warnings.push_back(event.warning());
      return false;
    case TaskEvent::kCheckResult:
      report.check_result = event.check_result();
      if (event.check_result().violations_size() > 0) {
        report.check_failure = CheckFailure(event.check_result());
      }
      return true;
    case TaskEvent::kPublishRequest:
      report.publish = event.publish_request().saved();
      return true;
    case TaskEvent::kPublication:
      report.publication = event.publication();
      return true;
    case TaskEvent::kExited:
      report.exit = ClassifyExit(event.exited());
      return true;
    case TaskEvent::EVENT_NOT_SET:
      return false;  // of a newer worker; acknowledged with the rest
  }
  return false;
}

std::vector<ReportTask> ReportBuffer::Flush() {
  std::vector<ReportTask> reports;
  for (auto& [key, task] : tasks_) {
    std::move(task.returned.begin(), task.returned.end(), std::back_inserter(reports));
    task.returned.clear();
    if (task.waiting.has_value()) reports.push_back(*std::exchange(task.waiting, std::nullopt));
  }
  return reports;
}

void ReportBuffer::Return(ReportTask report) {
  const auto entry = tasks_.find(KeyOf(report.worker_id, report.ref));
  if (entry == tasks_.end()) return;  // the worker replays it
  std::vector<ReportTask>& returned = entry->second.returned;
  const auto after =
      std::upper_bound(returned.begin(), returned.end(), report.first_seq,
                       [](int64_t seq, const ReportTask& other) { return seq < other.first_seq; });
  returned.insert(after, std::move(report));
}

void ReportBuffer::ForgetWorker(const std::string& worker_id) {
  std::erase_if(tasks_, [&](const auto& entry) { return std::get<0>(entry.first) == worker_id; });
}

void ReportBuffer::ForgetTask(const std::string& worker_id, const liger::trainer::v1::Ref& ref) {
  tasks_.erase(KeyOf(worker_id, ref));
}

}  // namespace liger::server
