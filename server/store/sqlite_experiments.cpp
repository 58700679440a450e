// Experiments, environments and results.

#include <utility>

#include "server/store/job_filter.h"
#include "server/store/sqlite_tables.h"

namespace liger::server {
namespace {

#define EXPERIMENT_COLUMNS "uid, tenant, name, state, experiment, created, revision, deleted"

std::vector<ExperimentRow> ReadExperiments(SqliteQuery query) {
  std::vector<ExperimentRow> rows;
  while (query.Next()) {
    ExperimentRow& row = rows.emplace_back();
    row.uid = query.Text();
    row.tenant = query.Text();
    row.name = query.Text();
    row.state = static_cast<ExperimentState>(query.Int());
    query.Message(&row.experiment);
    row.created_us = query.Int();
    row.revision = query.Int();
    row.deleted_us = query.Int();
  }
  return rows;
}

std::optional<ExperimentRow> FirstExperiment(SqliteQuery query) {
  std::vector<ExperimentRow> rows = ReadExperiments(std::move(query));
  if (rows.empty()) return std::nullopt;
  return std::move(rows.front());
}

}  // namespace

std::optional<liger::v1::RunEnvironment> SqliteTables::Environment(const std::string& job_uid,
                                                                   int64_t epoch) const {
  SqliteQuery query = db_->Query(
      "SELECT environment FROM environments WHERE job_uid = ?1 AND epoch = ?2", job_uid, epoch);
  if (!query.Next()) return std::nullopt;
  liger::v1::RunEnvironment environment;
  query.Message(&environment);
  return environment;
}

void SqliteTables::PutEnvironment(const std::string& job_uid, int64_t epoch,
                                  const liger::v1::RunEnvironment& environment) {
  db_->Run("INSERT OR REPLACE INTO environments VALUES(?1, ?2, ?3)", job_uid, epoch, environment);
}

std::optional<ExperimentRow> SqliteTables::Experiment(const std::string& uid) const {
  return FirstExperiment(
      db_->Query("SELECT " EXPERIMENT_COLUMNS " FROM experiments WHERE uid = ?1", uid));
}

std::optional<ExperimentRow> SqliteTables::ExperimentByName(const std::string& tenant,
                                                            const std::string& name) const {
  return FirstExperiment(
      db_->Query("SELECT " EXPERIMENT_COLUMNS
                 " FROM experiments WHERE tenant = ?1 AND name = ?2 AND deleted = 0",
                 tenant, name));
}

absl::StatusOr<ExperimentPage> SqliteTables::ListExperiments(const ExperimentQuery& query) const {
  const absl::StatusOr<PageToken> after = ParsePageToken(query.page_token);
  if (!after.ok()) return after.status();
  const absl::StatusOr<int32_t> size = PageSize(query.page_size);
  if (!size.ok()) return size.status();
  ExperimentPage page;
  page.experiments = ReadExperiments(
      db_->Query("SELECT " EXPERIMENT_COLUMNS
                 " FROM experiments WHERE tenant = ?1 AND deleted = 0 AND (created, uid) < (?2, ?3)"
                 " ORDER BY created DESC, uid DESC LIMIT ?4",
                 query.tenant, after->created_us, after->uid, *size + 1));
  if (page.experiments.size() > static_cast<size_t>(*size)) {
    page.experiments.pop_back();
    const ExperimentRow& last = page.experiments.back();
    page.next_page_token = FormatPageToken({last.created_us, last.uid});
  }
  return page;
}

std::vector<ExperimentRow> SqliteTables::ActiveExperiments() const {
  return ReadExperiments(
      db_->Query("SELECT " EXPERIMENT_COLUMNS
                 " FROM experiments WHERE state IN (?1, ?2) ORDER BY created, uid",
                 static_cast<int64_t>(liger::v1::Experiment::RUNNING),
                 static_cast<int64_t>(liger::v1::Experiment::CANCELLING)));
}

std::vector<ExperimentRow> SqliteTables::EndedExperiments(int32_t limit) const {
  return ReadExperiments(db_->Query("SELECT " EXPERIMENT_COLUMNS
                                    " FROM experiments WHERE state NOT IN (?1, ?2) AND deleted = 0"
                                    " ORDER BY revision DESC LIMIT ?3",
                                    static_cast<int64_t>(liger::v1::Experiment::RUNNING),
                                    static_cast<int64_t>(liger::v1::Experiment::CANCELLING),
                                    static_cast<int64_t>(limit)));
}

void SqliteTables::PutExperiment(const ExperimentRow& row) {
  db_->Run("INSERT OR REPLACE INTO experiments VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", row.uid,
           row.tenant, row.name, static_cast<int64_t>(row.state), row.experiment, row.created_us,
           row.revision, row.deleted_us);
}

std::vector<std::string> SqliteTables::Results(const std::string& tenant,
                                               const std::string& key) const {
  std::vector<std::string> uids;
  SqliteQuery query = db_->Query(
      "SELECT job_uid FROM results WHERE tenant = ?1 AND key = ?2 ORDER BY recorded DESC, job_uid",
      tenant, key);
  while (query.Next()) uids.push_back(query.Text());
  return uids;
}

void SqliteTables::PutResult(const ResultRow& row) {
  db_->Run("INSERT OR REPLACE INTO results VALUES(?1, ?2, ?3, ?4)", row.tenant, row.key,
           row.job_uid, row.recorded_us);
}

}  // namespace liger::server
