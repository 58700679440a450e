#ifndef LIGER_WORKER_AGENT_TASK_TABLE_H_
#define LIGER_WORKER_AGENT_TASK_TABLE_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "liger/worker/v1/worker.pb.h"
#include "worker/agent/services.h"
#include "worker/agent/task_runner.h"

namespace liger::agent {

// The tasks of this worker and how far each one's events were sent on the
// current session.
class TaskTable {
 public:
  using Sender = std::function<void(worker::v1::WorkerMessage)>;

  explicit TaskTable(const Services& services) : services_(services) {}

  // Takes up what an earlier agent left in the attempts folder.
  void Recover();
  // Launches; a task that is there already is left alone. False when not even
  // its failure could be recorded.
  absl::Status Start(const worker::v1::Prepare& prepare, const worker::v1::Start& start);
  TaskRunner* Find(const trainer::v1::Ref& ref);
  TaskRunner* FindByKey(const std::string& key);
  // The tasks of this job with an older epoch.
  std::vector<TaskRunner*> Older(const trainer::v1::Ref& ref);

  // Advances every task and drops the finished ones.
  void Tick(absl::Time now, bool connected);
  // Sends what was not sent on this session, in order for each task.
  void SendEvents(const Sender& send);
  // A new session: everything unacknowledged goes out again, and publications
  // without an answer are asked for again.
  void Replay(const Sender& send);

  void ForEach(const std::function<void(TaskRunner&)>& visit);
  std::vector<worker::v1::OwnedTask> Owned() const;
  std::vector<worker::v1::TaskStatus> Statuses(absl::Time now) const;
  bool AnyRunning() const;
  bool AllDrained() const;
  size_t PendingEvents() const;
  size_t size() const { return tasks_.size(); }

 private:
  struct Entry {
    std::unique_ptr<TaskRunner> task;
    int64_t sent_seq = 0;
  };
  const Services& services_;
  std::map<std::string, Entry> tasks_;
};

}  // namespace liger::agent

#endif  // LIGER_WORKER_AGENT_TASK_TABLE_H_
