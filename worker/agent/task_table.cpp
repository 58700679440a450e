#include "worker/agent/task_table.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "worker/agent/log.h"
#include "worker/agent/process.h"
#include "worker/agent/steady_time.h"

namespace liger::agent {

using worker::v1::WorkerMessage;

void TaskTable::Recover() {
  for (const AttemptFolder& folder : services_.archive->Unfinished()) {
    absl::StatusOr<std::unique_ptr<TaskRunner>> task = TaskRunner::Recover(services_, folder);
    if (!task.ok()) {
      // Nothing was started in it, or nothing can be known about it.
      LogWarning("leftover ", folder.path(), ": ", task.status().ToString());
      KillTree({}, folder.path(), absl::Seconds(5));
      services_.archive->Keep(folder);
      continue;
    }
    LogInfo("taking up task ", TaskKey((*task)->ref()), " of an earlier agent");
    tasks_[TaskKey((*task)->ref())].task = *std::move(task);
  }
}

absl::Status TaskTable::Start(const worker::v1::Prepare& prepare, const worker::v1::Start& start) {
  const std::string key = TaskKey(prepare.ref());
  if (tasks_.contains(key)) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<TaskRunner>> task = TaskRunner::Launch(services_, prepare, start);
  if (!task.ok()) return task.status();
  tasks_[key].task = *std::move(task);
  return absl::OkStatus();
}

TaskRunner* TaskTable::Find(const trainer::v1::Ref& ref) { return FindByKey(TaskKey(ref)); }

TaskRunner* TaskTable::FindByKey(const std::string& key) {
  auto it = tasks_.find(key);
  return it == tasks_.end() ? nullptr : it->second.task.get();
}

std::vector<TaskRunner*> TaskTable::Older(const trainer::v1::Ref& ref) {
  std::vector<TaskRunner*> older;
  for (auto& [key, entry] : tasks_) {
    const trainer::v1::Ref& other = entry.task->ref();
    if (other.job_uid() == ref.job_uid() && other.epoch() < ref.epoch()) {
      older.push_back(entry.task.get());
    }
  }
  return older;
}

void TaskTable::Tick(absl::Time now, bool connected) {
  std::set<pid_t> known;
  for (auto& [key, entry] : tasks_) {
    entry.task->Tick(now, connected);
    known.merge(entry.task->Pids());
  }
  std::erase_if(tasks_, [](const auto& item) { return item.second.task->finished(); });
  ReapStrays(known);
}

void TaskTable::SendEvents(const Sender& send) {
  for (auto& [key, entry] : tasks_) {
    while (const worker::v1::TaskEvent* event = entry.task->spool().After(entry.sent_seq)) {
      WorkerMessage message;
      *message.mutable_event() = *event;
      entry.sent_seq = event->seq();
      send(std::move(message));
    }
  }
}

void TaskTable::Replay(const Sender& send) {
  for (auto& [key, entry] : tasks_) {
    entry.sent_seq = entry.task->spool().acknowledged();
    for (const worker::v1::TaskEvent& event : entry.task->publications().AskAgain()) {
      if (event.seq() > entry.sent_seq) continue;  // replayed in its place
      WorkerMessage message;
      *message.mutable_event() = event;
      send(std::move(message));
    }
  }
  SendEvents(send);
}

void TaskTable::ForEach(const std::function<void(TaskRunner&)>& visit) {
  for (auto& [key, entry] : tasks_) visit(*entry.task);
}

std::vector<worker::v1::OwnedTask> TaskTable::Owned() const {
  std::vector<worker::v1::OwnedTask> owned;
  for (const auto& [key, entry] : tasks_) owned.push_back(entry.task->Owned());
  return owned;
}

std::vector<worker::v1::TaskStatus> TaskTable::Statuses(absl::Time now) const {
  std::vector<worker::v1::TaskStatus> statuses;
  for (const auto& [key, entry] : tasks_) statuses.push_back(entry.task->Status(now));
  return statuses;
}

bool TaskTable::AnyRunning() const {
  return std::any_of(tasks_.begin(), tasks_.end(),
                     [](const auto& item) { return item.second.task->running(); });
}

bool TaskTable::AllDrained() const {
  return std::all_of(tasks_.begin(), tasks_.end(), [](const auto& item) {
    return item.second.task->exited() != nullptr && item.second.task->spool().drained();
  });
}

size_t TaskTable::PendingEvents() const {
  size_t pending = 0;
  for (const auto& [key, entry] : tasks_) pending += entry.task->spool().pending();
  return pending;
}

}  // namespace liger::agent
