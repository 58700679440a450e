// Attempts, members, tasks, workers, artifacts, metrics and log files.

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/store/sqlite_tables.h"

namespace liger::server {
namespace {

#define ATTEMPT_COLUMNS \
  "job_uid, epoch, state, resume_from, started, ended, failure_class, first_failed_rank, detail"
#define MEMBER_COLUMNS                                                                        \
  "job_uid, epoch, node_rank, worker_id, incarnation, ranks, device_uuids, acked_event_seq, " \
  "released, exit_state, exit_retry, exit_free, exit_failure, exit_time"
#define TASK_COLUMNS \
  "task_id, kind, job_uid, worker_id, incarnation, state, result, acked_event_seq, created"
#define WORKER_COLUMNS "worker_id, incarnation, boot_id, hello, state, cordoned, updated"
#define ARTIFACT_COLUMNS                                                               \
  "artifacts.id, artifacts.job_uid, artifacts.epoch, artifacts.publication_id, "       \
  "artifacts.kind, artifacts.step, artifacts.uri, artifacts.digest, artifacts.bytes, " \
  "artifacts.worker_id, artifacts.created, artifacts.damage, artifacts.visible, "      \
  "artifacts.best"

// Lists are stored one item a line.
template <typename Container>
std::string JoinLines(const Container& items) {
  return absl::StrJoin(items, "\n");
}

void Read(SqliteQuery& query, AttemptRow* row) {
  row->job_uid = query.Text();
  row->epoch = query.Int();
  row->state = static_cast<AttemptState>(query.Int());
  row->resume_from = query.Text();
  row->started_us = query.Int();
  row->ended_us = query.Int();
  row->failure_class = static_cast<liger::v1::FailureClass>(query.Int());
  row->first_failed_rank = static_cast<int32_t>(query.Int());
  row->detail = query.Text();
}

void Read(SqliteQuery& query, MemberRow* row) {
  row->job_uid = query.Text();
  row->epoch = query.Int();
  row->node_rank = static_cast<int32_t>(query.Int());
  row->worker_id = query.Text();
  row->incarnation = query.Int();
  for (absl::string_view rank : absl::StrSplit(query.Text(), '\n', absl::SkipEmpty())) {
    int32_t number = 0;
    if (absl::SimpleAtoi(rank, &number)) row->ranks.push_back(number);
  }
  row->device_uuids = absl::StrSplit(query.Text(), '\n', absl::SkipEmpty());
  row->acked_event_seq = query.Int();
  row->released_us = query.Int();
  MemberExit exit;
  const int64_t state = query.Int();
  exit.outcome = static_cast<AttemptState>(state);
  exit.retry = query.Int() != 0;
  exit.free = query.Int() != 0;
  query.Message(&exit.failure);
  exit.time_us = query.Int();
  if (state != 0) row->exit = std::move(exit);
}

void Read(SqliteQuery& query, TaskRow* row) {
  row->task_id = query.Text();
  row->kind = static_cast<liger::trainer::v1::TaskKind>(query.Int());
  row->job_uid = query.Text();
  row->worker_id = query.Text();
  row->incarnation = query.Int();
  row->state = static_cast<TaskState>(query.Int());
  query.Message(&row->result);
  row->acked_event_seq = query.Int();
  row->created_us = query.Int();
}

void Read(SqliteQuery& query, WorkerRow* row) {
  row->worker_id = query.Text();
  row->incarnation = query.Int();
  row->boot_id = query.Text();
  query.Message(&row->hello);
  row->state = static_cast<WorkerState>(query.Int());
  row->cordoned = query.Int() != 0;
  row->updated_us = query.Int();
}

void Read(SqliteQuery& query, ArtifactRow* row) {
  row->id = query.Text();
  row->job_uid = query.Text();
  row->epoch = query.Int();
  row->publication_id = query.Text();
  row->kind = query.Text();
  row->step = query.Int();
  row->uri = query.Text();
  row->digest = query.Text();
  row->bytes = query.Int();
  row->worker_id = query.Text();
  row->created_us = query.Int();
  row->damage = query.Text();
  row->visible = query.Int() != 0;
  query.Message(&row->best);
}

void Read(SqliteQuery& query, MetricChunkRow* row) {
  row->job_uid = query.Text();
  row->epoch = query.Int();
  row->first_step = query.Int();
  row->last_step = query.Int();
  row->blob = query.Bytes();
}

void Read(SqliteQuery& query, LogFileRow* row) {
  row->job_uid = query.Text();
  row->epoch = query.Int();
  row->rank = static_cast<int32_t>(query.Int());
  row->path = query.Text();
  row->through_offset = query.Int();
}

template <typename Row>
std::vector<Row> ReadAll(SqliteQuery query) {
  std::vector<Row> rows;
  while (query.Next()) Read(query, &rows.emplace_back());
  return rows;
}

template <typename Row>
std::optional<Row> ReadOne(SqliteQuery query) {
  if (!query.Next()) return std::nullopt;
  Row row;
  Read(query, &row);
  return row;
}

}  // namespace

std::vector<AttemptRow> SqliteTables::Attempts(const std::string& job_uid) const {
  return ReadAll<AttemptRow>(db_->Query(
      "SELECT " ATTEMPT_COLUMNS " FROM attempts WHERE job_uid = ?1 ORDER BY epoch DESC", job_uid));
}

std::optional<AttemptRow> SqliteTables::Attempt(const std::string& job_uid, int64_t epoch) const {
  return ReadOne<AttemptRow>(db_->Query("SELECT " ATTEMPT_COLUMNS
                                        " FROM attempts WHERE job_uid = ?1 AND epoch = ?2",
                                        job_uid, epoch));
}

void SqliteTables::PutAttempt(const AttemptRow& row) {
  db_->Run("INSERT OR REPLACE INTO attempts VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
           row.job_uid, row.epoch, static_cast<int64_t>(row.state), row.resume_from, row.started_us,
           row.ended_us, row.failure_class, row.first_failed_rank, row.detail);
}

std::vector<MemberRow> SqliteTables::Members(const std::string& job_uid, int64_t epoch) const {
  return ReadAll<MemberRow>(db_->Query(
      "SELECT " MEMBER_COLUMNS " FROM members WHERE job_uid = ?1 AND epoch = ?2 ORDER BY node_rank",
      job_uid, epoch));
}

std::vector<MemberRow> SqliteTables::UnreleasedMembers(const std::string& worker_id) const {
  if (worker_id.empty()) {
    return ReadAll<MemberRow>(db_->Query("SELECT " MEMBER_COLUMNS " FROM members WHERE released = 0"
                                         " ORDER BY job_uid, epoch, node_rank"));
  }
  return ReadAll<MemberRow>(db_->Query("SELECT " MEMBER_COLUMNS
                                       " FROM members WHERE released = 0 AND worker_id = ?1"
                                       " ORDER BY job_uid, epoch, node_rank",
                                       worker_id));
}

void SqliteTables::PutMember(const MemberRow& row) {
  const MemberExit exit = row.exit.value_or(MemberExit());
  const int64_t state = row.exit.has_value() ? static_cast<int64_t>(exit.outcome) : 0;
  db_->Run(
      "INSERT OR REPLACE INTO members VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, "
      "?13, ?14)",
      row.job_uid, row.epoch, row.node_rank, row.worker_id, row.incarnation, JoinLines(row.ranks),
      JoinLines(row.device_uuids), row.acked_event_seq, row.released_us, state, exit.retry,
      exit.free, exit.failure, exit.time_us);
}

std::optional<TaskRow> SqliteTables::Task(const std::string& task_id) const {
  return ReadOne<TaskRow>(
      db_->Query("SELECT " TASK_COLUMNS " FROM tasks WHERE task_id = ?1", task_id));
}

std::vector<TaskRow> SqliteTables::Tasks(const std::string& job_uid) const {
  return ReadAll<TaskRow>(db_->Query(
      "SELECT " TASK_COLUMNS " FROM tasks WHERE job_uid = ?1 ORDER BY task_id", job_uid));
}

std::vector<TaskRow> SqliteTables::RunningTasks() const {
  return ReadAll<TaskRow>(db_->Query("SELECT " TASK_COLUMNS
                                     " FROM tasks WHERE state = ?1 ORDER BY task_id",
                                     static_cast<int64_t>(TaskState::kRunning)));
}

void SqliteTables::PutTask(const TaskRow& row) {
  db_->Run("INSERT OR REPLACE INTO tasks VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", row.task_id,
           row.kind, row.job_uid, row.worker_id, row.incarnation, static_cast<int64_t>(row.state),
           row.result, row.acked_event_seq, row.created_us);
}

std::optional<WorkerRow> SqliteTables::Worker(const std::string& worker_id) const {
  return ReadOne<WorkerRow>(
      db_->Query("SELECT " WORKER_COLUMNS " FROM workers WHERE worker_id = ?1", worker_id));
}

std::vector<WorkerRow> SqliteTables::Workers() const {
  return ReadAll<WorkerRow>(
      db_->Query("SELECT " WORKER_COLUMNS " FROM workers ORDER BY worker_id"));
}

void SqliteTables::PutWorker(const WorkerRow& row) {
  db_->Run("INSERT OR REPLACE INTO workers VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)", row.worker_id,
           row.incarnation, row.boot_id, row.hello, static_cast<int64_t>(row.state), row.cordoned,
           row.updated_us);
}

std::vector<ArtifactRow> SqliteTables::Artifacts(const std::string& tenant,
                                                 const std::string& job_uid) const {
  if (job_uid.empty()) {
    return ReadAll<ArtifactRow>(
        db_->Query("SELECT " ARTIFACT_COLUMNS
                   " FROM artifacts JOIN jobs ON jobs.uid = artifacts.job_uid"
                   " WHERE jobs.tenant = ?1 AND jobs.deleted = 0 ORDER BY artifacts.created DESC, "
                   "artifacts.id DESC",
                   tenant));
  }
  return ReadAll<ArtifactRow>(db_->Query("SELECT " ARTIFACT_COLUMNS
                                         " FROM artifacts JOIN jobs ON jobs.uid = artifacts.job_uid"
                                         " WHERE artifacts.job_uid = ?2 AND jobs.tenant = ?1"
                                         " ORDER BY artifacts.created DESC, artifacts.id DESC",
                                         tenant, job_uid));
}

void SqliteTables::PutArtifact(const ArtifactRow& row) {
  db_->Run(
      "INSERT OR REPLACE INTO artifacts VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, "
      "?12, ?13, ?14)",
      row.id, row.job_uid, row.epoch, row.publication_id, row.kind, row.step, row.uri, row.digest,
      row.bytes, row.worker_id, row.created_us, row.damage, row.visible, row.best);
}

void SqliteTables::DropArtifact(const std::string& id) {
  db_->Run("DELETE FROM artifacts WHERE id = ?1", id);
}

std::vector<ReclaimRow> SqliteTables::Reclaims(const std::string& worker_id) const {
  std::vector<ReclaimRow> rows;
  SqliteQuery query =
      db_->Query("SELECT uri, digest FROM reclaims WHERE worker_id = ?1 ORDER BY uri", worker_id);
  while (query.Next()) {
    ReclaimRow& row = rows.emplace_back();
    row.worker_id = worker_id;
    row.uri = query.Text();
    row.digest = query.Text();
  }
  return rows;
}

void SqliteTables::PutReclaim(const ReclaimRow& row) {
  db_->Run("INSERT OR REPLACE INTO reclaims VALUES(?1, ?2, ?3)", row.worker_id, row.uri,
           row.digest);
}

void SqliteTables::DropReclaim(const ReclaimRow& row) {
  db_->Run("DELETE FROM reclaims WHERE worker_id = ?1 AND uri = ?2 AND digest = ?3", row.worker_id,
           row.uri, row.digest);
}

std::vector<MetricChunkRow> SqliteTables::MetricChunks(const std::string& job_uid, int64_t epoch,
                                                       int64_t from_step, int64_t to_step) const {
  return ReadAll<MetricChunkRow>(
      db_->Query("SELECT job_uid, epoch, first_step, last_step, blob FROM metric_chunks"
                 " WHERE job_uid = ?1 AND epoch = ?2 AND last_step >= ?3"
                 " AND (?4 = 0 OR first_step <= ?4) ORDER BY first_step",
                 job_uid, epoch, from_step, to_step));
}

int64_t SqliteTables::MetricsFromStep(const std::string& job_uid, int64_t epoch) const {
  SqliteQuery query = db_->Query(
      "SELECT COALESCE(MIN(first_step), 0) FROM metric_chunks WHERE job_uid = ?1 AND epoch = ?2",
      job_uid, epoch);
  return query.Next() ? query.Int() : 0;
}

int64_t SqliteTables::MetricsThroughStep(const std::string& job_uid, int64_t epoch) const {
  SqliteQuery query = db_->Query(
      "SELECT COALESCE(MAX(last_step), 0) FROM metric_chunks WHERE job_uid = ?1 AND epoch = ?2",
      job_uid, epoch);
  return query.Next() ? query.Int() : 0;
}

void SqliteTables::AddMetricChunk(const MetricChunkRow& row) {
  db_->Run("INSERT OR REPLACE INTO metric_chunks VALUES(?1, ?2, ?3, ?4, ?5)", row.job_uid,
           row.epoch, row.first_step, row.last_step, SqliteQuery::Blob{row.blob});
}

std::vector<LogFileRow> SqliteTables::LogFiles(const std::string& job_uid) const {
  return ReadAll<LogFileRow>(
      db_->Query("SELECT job_uid, epoch, rank, path, through_offset FROM log_files"
                 " WHERE job_uid = ?1 ORDER BY epoch, rank",
                 job_uid));
}

void SqliteTables::PutLogFile(const LogFileRow& row) {
  db_->Run("INSERT OR REPLACE INTO log_files VALUES(?1, ?2, ?3, ?4, ?5)", row.job_uid, row.epoch,
           row.rank, row.path, row.through_offset);
}

std::vector<std::string> SqliteTables::JobsWithOldBulk(int64_t ended_before_us) const {
  std::vector<std::string> uids;
  SqliteQuery query = db_->Query(
      "SELECT uid FROM jobs WHERE (deleted != 0 OR (ended != 0 AND ended < ?1))"
      " AND (EXISTS(SELECT 1 FROM metric_chunks WHERE job_uid = uid)"
      "      OR EXISTS(SELECT 1 FROM log_files WHERE job_uid = uid)) ORDER BY uid",
      ended_before_us);
  while (query.Next()) uids.push_back(query.Text());
  return uids;
}

void SqliteTables::DropBulk(const std::string& job_uid) {
  db_->Run("DELETE FROM metric_chunks WHERE job_uid = ?1", job_uid);
  db_->Run("DELETE FROM log_files WHERE job_uid = ?1", job_uid);
}

}  // namespace liger::server
