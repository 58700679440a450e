#ifndef LIGER_SERVER_STORE_MEMORY_TABLES_H_
#define LIGER_SERVER_STORE_MEMORY_TABLES_H_

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "server/store/tables.h"

namespace liger::server {

// Ordered maps with a journal, so that a command or a transaction can be
// undone. Not thread-safe: MemoryBackend locks.
class MemoryTables : public Tables {
 public:
  // A point in the journal, and back to it.
  size_t Mark() const { return undo_.size(); }
  void UndoTo(size_t mark);
  void ForgetJournal() { undo_.clear(); }

  absl::Status status() const override { return absl::OkStatus(); }
  std::optional<JobRow> Job(const std::string& uid) const override;
  std::optional<JobRow> JobByName(const std::string& tenant,
                                  const std::string& name) const override;
  absl::StatusOr<JobPage> ListJobs(const JobQuery& query) const override;
  std::vector<JobRow> ActiveJobs() const override;
  std::vector<JobRow> ActiveJobsWithoutSpecs() const override;
  std::vector<std::pair<std::string, int64_t>> RunningJobs() const override;
  std::vector<JobRow> JobsByOutput(const std::string& tenant,
                                   const std::string& output) const override;
  std::vector<JobRow> JobsBelowOutput(const std::string& tenant,
                                      const std::string& output) const override;
  std::vector<JobRow> JobsEndedSince(int64_t since_us) const override;
  std::vector<std::pair<JobState, int64_t>> CountJobs() const override;
  std::vector<AttemptRow> Attempts(const std::string& job_uid) const override;
  std::optional<AttemptRow> Attempt(const std::string& job_uid, int64_t epoch) const override;
  std::vector<MemberRow> Members(const std::string& job_uid, int64_t epoch) const override;
  std::vector<MemberRow> UnreleasedMembers(const std::string& worker_id) const override;
  std::optional<TaskRow> Task(const std::string& task_id) const override;
  std::vector<TaskRow> Tasks(const std::string& job_uid) const override;
  std::vector<TaskRow> RunningTasks() const override;
  std::optional<WorkerRow> Worker(const std::string& worker_id) const override;
  std::vector<WorkerRow> Workers() const override;
  std::vector<liger::v1::JobEvent> Events(const std::string& job_uid, int64_t after_seq,
                                          int32_t limit) const override;
  std::vector<liger::v1::JobEvent> EventsSince(const std::string& tenant, int64_t after_revision,
                                               int32_t limit) const override;
  int64_t Revision() const override;
  std::optional<RequestRow> Request(const std::string& tenant, const std::string& method,
                                    const std::string& request_id) const override;
  std::vector<ArtifactRow> Artifacts(const std::string& tenant,
                                     const std::string& job_uid) const override;
  std::vector<ReclaimRow> Reclaims(const std::string& worker_id) const override;
  std::vector<MetricChunkRow> MetricChunks(const std::string& job_uid, int64_t epoch,
                                           int64_t from_step, int64_t to_step) const override;
  int64_t MetricsFromStep(const std::string& job_uid, int64_t epoch) const override;
  int64_t MetricsThroughStep(const std::string& job_uid, int64_t epoch) const override;
  std::vector<LogFileRow> LogFiles(const std::string& job_uid) const override;
  std::optional<liger::v1::RunEnvironment> Environment(const std::string& job_uid,
                                                       int64_t epoch) const override;
  std::optional<ExperimentRow> Experiment(const std::string& uid) const override;
  std::optional<ExperimentRow> ExperimentByName(const std::string& tenant,
                                                const std::string& name) const override;
  absl::StatusOr<ExperimentPage> ListExperiments(const ExperimentQuery& query) const override;
  std::vector<ExperimentRow> ActiveExperiments() const override;
  std::vector<ExperimentRow> EndedExperiments(int32_t limit) const override;
  std::vector<std::string> Results(const std::string& tenant,
                                   const std::string& key) const override;
  std::string Meta(const std::string& key) const override;

  int64_t NextSequence(const std::string& name) override;
  void PutMeta(const std::string& key, const std::string& value) override;
  void PutJob(const JobRow& row) override;
  void PutLabels(const std::string& job_uid,
                 const std::map<std::string, std::string>& labels) override;
  void PutRequest(const RequestRow& row) override;
  void DropRequestsBefore(int64_t expires_us) override;
  void PutAttempt(const AttemptRow& row) override;
  void PutMember(const MemberRow& row) override;
  void PutTask(const TaskRow& row) override;
  void PutWorker(const WorkerRow& row) override;
  void AddEvent(const liger::v1::JobEvent& event) override;
  void PutArtifact(const ArtifactRow& row) override;
  void DropArtifact(const std::string& id) override;
  void PutReclaim(const ReclaimRow& row) override;
  void DropReclaim(const ReclaimRow& row) override;
  void AddMetricChunk(const MetricChunkRow& row) override;
  void PutLogFile(const LogFileRow& row) override;
  void PutEnvironment(const std::string& job_uid, int64_t epoch,
                      const liger::v1::RunEnvironment& environment) override;
  void PutExperiment(const ExperimentRow& row) override;
  void PutResult(const ResultRow& row) override;
  std::vector<std::string> JobsWithOldBulk(int64_t ended_before_us) const override;
  void DropBulk(const std::string& job_uid) override;

 private:
  // Sets or (nullopt) erases, and notes how to go back.
  template <typename Map>
  void Write(Map* map, const typename Map::key_type& key,
             std::optional<typename Map::mapped_type> value);

  std::vector<std::function<void()>> undo_;

  std::map<std::string, std::string> meta_;
  std::map<std::string, int64_t> sequences_;
  std::map<std::string, JobRow> jobs_;                                 // uid
  std::map<std::tuple<std::string, std::string>, std::string> names_;  // tenant, name
  std::map<std::tuple<std::string, std::string, std::string>, RequestRow> requests_;
  std::map<std::tuple<std::string, int64_t>, AttemptRow> attempts_;         // uid, epoch
  std::map<std::tuple<std::string, int64_t, int32_t>, MemberRow> members_;  // .., node_rank
  std::map<std::string, TaskRow> tasks_;
  std::map<std::string, WorkerRow> workers_;
  std::map<std::tuple<std::string, int64_t>, liger::v1::JobEvent> events_;  // uid, seq
  std::map<std::string, ArtifactRow> artifacts_;
  std::map<std::tuple<std::string, std::string>, ReclaimRow> reclaims_;         // worker, uri
  std::map<std::tuple<std::string, int64_t, int64_t>, MetricChunkRow> chunks_;  // .., first_step
  std::map<std::tuple<std::string, int64_t, int32_t>, LogFileRow> log_files_;   // .., rank
  std::map<std::tuple<std::string, int64_t>, liger::v1::RunEnvironment> environments_;
  std::map<std::string, ExperimentRow> experiments_;                                // uid
  std::map<std::tuple<std::string, std::string, std::string>, ResultRow> results_;  // .., job_uid
};

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_MEMORY_TABLES_H_
