// Jobs, labels, requests, events, meta and sequences.

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/job_filter.h"
#include "server/store/sqlite_tables.h"

namespace liger::server {
namespace {

#define JOB_COLUMNS_WITH(specs)                                                                 \
  "jobs.uid, jobs.tenant, jobs.name, jobs.state, jobs.reason, jobs.priority, jobs.method, "     \
  "jobs.model, jobs.spec_hash, jobs.hash_version, jobs.status, jobs.current_epoch, "            \
  "jobs.restarts, jobs.created, jobs.updated, jobs.started, jobs.ended, jobs.state_since, "     \
  "jobs.revision, jobs.last_event_seq, jobs.deleted, jobs.output, " specs
#define JOB_COLUMNS JOB_COLUMNS_WITH("jobs.spec, jobs.resolved_spec")

JobRow ReadJob(SqliteQuery& query) {
  JobRow row;
  row.uid = query.Text();
  row.tenant = query.Text();
  row.name = query.Text();
  row.state = static_cast<JobState>(query.Int());
  row.reason = query.Text();
  row.priority = static_cast<int32_t>(query.Int());
  row.method = query.Text();
  row.model = query.Text();
  row.spec_hash = query.Text();
  row.hash_version = static_cast<int32_t>(query.Int());
  query.Message(&row.status);
  row.epoch = query.Int();
  row.restarts = static_cast<int32_t>(query.Int());
  row.created_us = query.Int();
  row.updated_us = query.Int();
  row.started_us = query.Int();
  row.ended_us = query.Int();
  row.state_since_us = query.Int();
  row.revision = query.Int();
  row.last_event_seq = query.Int();
  row.deleted_us = query.Int();
  row.output = query.Text();
  query.Message(&row.spec);
  query.Message(&row.resolved_spec);
  return row;
}

std::vector<JobRow> ReadJobs(SqliteQuery query) {
  std::vector<JobRow> rows;
  while (query.Next()) rows.push_back(ReadJob(query));
  return rows;
}

std::optional<JobRow> ReadOneJob(SqliteQuery query) {
  if (!query.Next()) return std::nullopt;
  return ReadJob(query);
}

std::string ActiveJobsSql(const char* columns) {
  std::string states;
  for (int state = liger::v1::JobStatus::State_MIN; state <= liger::v1::JobStatus::State_MAX;
       ++state) {
    if (IsTerminal(static_cast<JobState>(state))) continue;
    absl::StrAppend(&states, states.empty() ? "" : ", ", state);
  }
  return absl::StrCat("SELECT ", columns, " FROM jobs WHERE state IN (", states,
                      ") ORDER BY created, uid");
}

std::vector<liger::v1::JobEvent> ReadEvents(SqliteQuery query) {
  std::vector<liger::v1::JobEvent> events;
  while (query.Next()) query.Message(&events.emplace_back());
  return events;
}

}  // namespace

std::optional<JobRow> SqliteTables::Job(const std::string& uid) const {
  return ReadOneJob(db_->Query("SELECT " JOB_COLUMNS " FROM jobs WHERE uid = ?1", uid));
}

std::optional<JobRow> SqliteTables::JobByName(const std::string& tenant,
                                              const std::string& name) const {
  return ReadOneJob(db_->Query("SELECT " JOB_COLUMNS
                               " FROM jobs WHERE tenant = ?1 AND name = ?2 AND deleted = 0",
                               tenant, name));
}

absl::StatusOr<JobPage> SqliteTables::ListJobs(const JobQuery& query) const {
  const absl::StatusOr<PageToken> after = ParsePageToken(query.page_token);
  if (!after.ok()) return after.status();
  const absl::StatusOr<int32_t> size = PageSize(query.page_size);
  if (!size.ok()) return size.status();
  const JobFilter& filter = query.filter;
  std::string sql =
      "SELECT " JOB_COLUMNS
      " FROM jobs WHERE tenant = ?1 AND deleted = 0 AND (created, uid) < (?2, ?3)"
      " AND (?4 = 0 OR state = ?4) AND (?5 = '' OR method = ?5) AND (?6 = '' OR model = ?6)"
      " AND (?7 = '' OR CASE WHEN ?8 THEN substr(name, 1, length(?7)) = ?7 ELSE name = ?7 END)";
  for (size_t i = 0; i < filter.labels.size(); ++i) {
    absl::StrAppend(&sql, " AND EXISTS(SELECT 1 FROM labels WHERE job_uid = jobs.uid AND key = ?",
                    2 * i + 10, " AND value = ?", 2 * i + 11, ")");
  }
  absl::StrAppend(&sql, " ORDER BY created DESC, uid DESC LIMIT ?9");
  SqliteQuery rows(db_, db_->Prepare(sql));
  rows.Bind(query.tenant);
  rows.Bind(after->created_us);
  rows.Bind(after->uid);
  rows.Bind(filter.state.value_or(liger::v1::JobStatus::STATE_UNSPECIFIED));
  rows.Bind(filter.method);
  rows.Bind(filter.model);
  rows.Bind(filter.name);
  rows.Bind(filter.name_is_prefix ? 1 : 0);
  rows.Bind(*size + 1);  // one more says whether there is a next page
  for (const auto& [key, value] : filter.labels) {
    rows.Bind(key);
    rows.Bind(value);
  }
  JobPage page;
  PageBudget budget;
  while (rows.Next()) {
    JobRow job = ReadJob(rows);
    if (page.jobs.size() == static_cast<size_t>(*size) || !budget.Takes(job)) {
      page.next_page_token = FormatPageToken({page.jobs.back().created_us, page.jobs.back().uid});
      break;
    }
    page.jobs.push_back(std::move(job));
  }
  return page;
}

std::vector<JobRow> SqliteTables::ActiveJobs() const {
  static const std::string sql = ActiveJobsSql(JOB_COLUMNS);
  return ReadJobs(db_->Query(sql.c_str()));
}

std::vector<JobRow> SqliteTables::ActiveJobsWithoutSpecs() const {
  static const std::string sql = ActiveJobsSql(JOB_COLUMNS_WITH("x'', x''"));
  return ReadJobs(db_->Query(sql.c_str()));
}

std::vector<std::pair<std::string, int64_t>> SqliteTables::RunningJobs() const {
  std::vector<std::pair<std::string, int64_t>> running;
  SqliteQuery query =
      db_->Query("SELECT uid, current_epoch FROM jobs WHERE state = ?1 ORDER BY uid",
                 liger::v1::JobStatus::RUNNING);
  while (query.Next()) {
    std::string uid = query.Text();
    running.emplace_back(std::move(uid), query.Int());
  }
  return running;
}

std::vector<JobRow> SqliteTables::JobsByOutput(const std::string& tenant,
                                               const std::string& output) const {
  return ReadJobs(db_->Query("SELECT " JOB_COLUMNS
                             " FROM jobs WHERE tenant = ?1 AND output = ?2 AND output != ''",
                             tenant, output));
}

// '0' is the character behind '/', so that the index finds them.
std::vector<JobRow> SqliteTables::JobsBelowOutput(const std::string& tenant,
                                                  const std::string& output) const {
  return ReadJobs(db_->Query("SELECT " JOB_COLUMNS
                             " FROM jobs WHERE tenant = ?1 AND output > ?2 || '/'"
                             " AND output < ?2 || '0' AND output != ''",
                             tenant, output));
}

std::vector<JobRow> SqliteTables::JobsEndedSince(int64_t since_us) const {
  return ReadJobs(db_->Query("SELECT " JOB_COLUMNS
                             " FROM jobs WHERE ended >= ?1 AND ended != 0 AND deleted = 0",
                             since_us));
}

std::vector<std::pair<JobState, int64_t>> SqliteTables::CountJobs() const {
  std::vector<std::pair<JobState, int64_t>> counts;
  SqliteQuery query = db_->Query(
      "SELECT state, COUNT(*) FROM jobs WHERE deleted = 0 GROUP BY state ORDER BY state");
  while (query.Next()) {
    const auto state = static_cast<JobState>(query.Int());
    counts.emplace_back(state, query.Int());
  }
  return counts;
}

void SqliteTables::PutJob(const JobRow& row) {
  db_->Run(
      "INSERT OR REPLACE INTO jobs VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, "
      "?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)",
      row.uid, row.tenant, row.name, row.state, row.reason, row.priority, row.method, row.model,
      row.spec_hash, row.hash_version, row.status, row.epoch, row.restarts, row.created_us,
      row.updated_us, row.started_us, row.ended_us, row.state_since_us, row.revision,
      row.last_event_seq, row.deleted_us, row.output, row.spec, row.resolved_spec);
}

void SqliteTables::PutLabels(const std::string& job_uid,
                             const std::map<std::string, std::string>& labels) {
  for (const auto& [key, value] : labels) {
    db_->Run("INSERT OR REPLACE INTO labels VALUES(?1, ?2, ?3)", job_uid, key, value);
  }
}

std::vector<liger::v1::JobEvent> SqliteTables::Events(const std::string& job_uid, int64_t after_seq,
                                                      int32_t limit) const {
  return ReadEvents(
      db_->Query("SELECT payload FROM events WHERE job_uid = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                 job_uid, after_seq, limit > 0 ? limit : -1));
}

std::vector<liger::v1::JobEvent> SqliteTables::EventsSince(const std::string& tenant,
                                                           int64_t after_revision,
                                                           int32_t limit) const {
  return ReadEvents(
      db_->Query("SELECT events.payload FROM events JOIN jobs ON jobs.uid = events.job_uid"
                 " WHERE jobs.tenant = ?1 AND events.revision > ?2"
                 " ORDER BY events.revision LIMIT ?3",
                 tenant, after_revision, limit > 0 ? limit : -1));
}

// The columns are for queries; the payload is the whole event.
void SqliteTables::AddEvent(const liger::v1::JobEvent& event) {
  const int64_t time_us = event.time().seconds() * 1000000 + event.time().nanos() / 1000;
  db_->Run("INSERT INTO events VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", event.job_uid(),
           event.seq(), event.revision(), time_us, event.type(), event.actor(), event.from_state(),
           event.to_state(), event);
}

std::optional<RequestRow> SqliteTables::Request(const std::string& tenant,
                                                const std::string& method,
                                                const std::string& request_id) const {
  SqliteQuery query = db_->Query(
      "SELECT tenant, method, request_id, body_hash, job_uid, expires FROM requests"
      " WHERE tenant = ?1 AND method = ?2 AND request_id = ?3",
      tenant, method, request_id);
  if (!query.Next()) return std::nullopt;
  RequestRow row;
  row.tenant = query.Text();
  row.method = query.Text();
  row.request_id = query.Text();
  row.body_hash = query.Text();
  row.job_uid = query.Text();
  row.expires_us = query.Int();
  return row;
}

void SqliteTables::PutRequest(const RequestRow& row) {
  db_->Run("INSERT OR REPLACE INTO requests VALUES(?1, ?2, ?3, ?4, ?5, ?6)", row.tenant, row.method,
           row.request_id, row.body_hash, row.job_uid, row.expires_us);
}

void SqliteTables::DropRequestsBefore(int64_t expires_us) {
  db_->Run("DELETE FROM requests WHERE expires <= ?1", expires_us);
}

std::string SqliteTables::Meta(const std::string& key) const {
  SqliteQuery query = db_->Query("SELECT value FROM meta WHERE key = ?1", key);
  return query.Next() ? query.Text() : "";
}

void SqliteTables::PutMeta(const std::string& key, const std::string& value) {
  db_->Run("INSERT OR REPLACE INTO meta VALUES(?1, ?2)", key, value);
}

int64_t SqliteTables::NextSequence(const std::string& name) {
  SqliteQuery query = db_->Query(
      "INSERT INTO sequences VALUES(?1, 1)"
      " ON CONFLICT(name) DO UPDATE SET next = next + 1 RETURNING next",
      name);
  int64_t next = 0;
  while (query.Next()) next = query.Int();
  return next;
}

int64_t SqliteTables::Revision() const {
  SqliteQuery query = db_->Query("SELECT next FROM sequences WHERE name = 'revision'");
  return query.Next() ? query.Int() : 0;
}

}  // namespace liger::server
