#ifndef LIGER_SERVER_STORE_SQLITE_TABLES_H_
#define LIGER_SERVER_STORE_SQLITE_TABLES_H_

#include <map>
#include <string>
#include <vector>

#include "server/store/sqlite_db.h"
#include "server/store/tables.h"

namespace liger::server {

// Rows as SQL, on one connection; the caller begins and ends transactions. On
// a read-only connection only the const half works.
class SqliteTables : public Tables {
 public:
  explicit SqliteTables(SqliteDb* db) : db_(db) {}

  absl::Status status() const override { return db_->status(); }
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
  SqliteDb* const db_;
};

}  // namespace liger::server

#endif  // LIGER_SERVER_STORE_SQLITE_TABLES_H_
