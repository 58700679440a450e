#ifndef LIGER_SERVER_STORE_TABLES_H_
#define LIGER_SERVER_STORE_TABLES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "server/store/read_view.h"

namespace liger::server {

// The rows inside one write transaction: reads see the writes before them.
// Every Put replaces the row with the same key. What rows mean is decided
// above (apply.h); an implementation only keeps them. As with ReadView, an
// error of the storage is kept in status() and fails the transaction.
class Tables : public ReadView {
 public:
  // A sequence that survives restarts: 1, 2, 3, ...
  virtual int64_t NextSequence(const std::string& name) = 0;
  virtual void PutMeta(const std::string& key, const std::string& value) = 0;

  virtual void PutJob(const JobRow& row) = 0;
  // Labels never change after the job was made.
  virtual void PutLabels(const std::string& job_uid,
                         const std::map<std::string, std::string>& labels) = 0;
  virtual void PutRequest(const RequestRow& row) = 0;
  virtual void DropRequestsBefore(int64_t expires_us) = 0;
  virtual void PutAttempt(const AttemptRow& row) = 0;
  virtual void PutMember(const MemberRow& row) = 0;
  virtual void PutTask(const TaskRow& row) = 0;
  virtual void PutWorker(const WorkerRow& row) = 0;
  virtual void AddEvent(const liger::v1::JobEvent& event) = 0;
  virtual void PutArtifact(const ArtifactRow& row) = 0;
  virtual void DropArtifact(const std::string& id) = 0;
  virtual void PutReclaim(const ReclaimRow& row) = 0;
  virtual void DropReclaim(const ReclaimRow& row) = 0;  // if it has that digest
  virtual void AddMetricChunk(const MetricChunkRow& row) = 0;
  virtual void PutLogFile(const LogFileRow& row) = 0;
  virtual void PutEnvironment(const std::string& job_uid, int64_t epoch,
                              const liger::v1::RunEnvironment& environment) = 0;
  virtual void PutExperiment(const ExperimentRow& row) = 0;
  virtual void PutResult(const ResultRow& row) = 0;

  // Jobs that were deleted, or ended before `ended_before_us`, and still have
  // metrics or log files.
  virtual std::vector<std::string> JobsWithOldBulk(int64_t ended_before_us) const = 0;
  virtual void DropBulk(const std::string& job_uid) = 0;
};

// Where rows live. One writer; any number of snapshots beside it.
class Backend {
 public:
  virtual ~Backend() = default;

  // A transaction holds any number of commands; each can be undone alone.
  virtual absl::Status Begin() = 0;
  virtual void BeginCommand() = 0;
  virtual void KeepCommand() = 0;
  virtual void UndoCommand() = 0;
  virtual absl::Status Commit() = 0;
  virtual void Rollback() = 0;
  // Valid between Begin and Commit or Rollback.
  virtual Tables& tables() = 0;

  // Calls `reader` with a view of the last commit. Any thread.
  virtual void Read(const std::function<void(absl::StatusOr<const ReadView*>)>& reader) = 0;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_TABLES_H_
