// Experiments, environments and results.

#include <algorithm>
#include <tuple>

#include "server/store/job_filter.h"
#include "server/store/memory_map.h"
#include "server/store/memory_tables.h"

namespace liger::server {

std::optional<liger::v1::RunEnvironment> MemoryTables::Environment(const std::string& job_uid,
                                                                   int64_t epoch) const {
  return Find(environments_, {job_uid, epoch});
}

void MemoryTables::PutEnvironment(const std::string& job_uid, int64_t epoch,
                                  const liger::v1::RunEnvironment& environment) {
  Write(&environments_, {job_uid, epoch}, environment);
}

std::optional<ExperimentRow> MemoryTables::Experiment(const std::string& uid) const {
  return Find(experiments_, uid);
}

std::optional<ExperimentRow> MemoryTables::ExperimentByName(const std::string& tenant,
                                                            const std::string& name) const {
  const auto rows = Where(experiments_, [&](const ExperimentRow& row) {
    return row.tenant == tenant && row.name == name && row.deleted_us == 0;
  });
  if (rows.empty()) return std::nullopt;
  return rows.front();
}

absl::StatusOr<ExperimentPage> MemoryTables::ListExperiments(const ExperimentQuery& query) const {
  const absl::StatusOr<PageToken> after = ParsePageToken(query.page_token);
  if (!after.ok()) return after.status();
  const absl::StatusOr<int32_t> size = PageSize(query.page_size);
  if (!size.ok()) return size.status();
  ExperimentPage page;
  page.experiments = Where(experiments_, [&](const ExperimentRow& row) {
    return row.tenant == query.tenant && row.deleted_us == 0 &&
           std::tie(row.created_us, row.uid) < std::tie(after->created_us, after->uid);
  });
  std::sort(page.experiments.begin(), page.experiments.end(),
            [](const ExperimentRow& a, const ExperimentRow& b) {
              return std::tie(a.created_us, a.uid) > std::tie(b.created_us, b.uid);
            });
  if (page.experiments.size() > static_cast<size_t>(*size)) {
    page.experiments.resize(*size);
    const ExperimentRow& last = page.experiments.back();
    page.next_page_token = FormatPageToken({last.created_us, last.uid});
  }
  return page;
}

std::vector<ExperimentRow> MemoryTables::ActiveExperiments() const {
  auto rows = Where(experiments_, [](const ExperimentRow& row) {
    return row.state == liger::v1::Experiment::RUNNING ||
           row.state == liger::v1::Experiment::CANCELLING;
  });
  std::sort(rows.begin(), rows.end(), [](const ExperimentRow& a, const ExperimentRow& b) {
    return std::tie(a.created_us, a.uid) < std::tie(b.created_us, b.uid);
  });
  return rows;
}

std::vector<ExperimentRow> MemoryTables::EndedExperiments(int32_t limit) const {
  auto rows = Where(experiments_, [](const ExperimentRow& row) {
    return row.state != liger::v1::Experiment::RUNNING &&
           row.state != liger::v1::Experiment::CANCELLING && row.deleted_us == 0;
  });
  std::sort(rows.begin(), rows.end(),
            [](const ExperimentRow& a, const ExperimentRow& b) { return a.revision > b.revision; });
  if (rows.size() > static_cast<size_t>(limit)) rows.resize(static_cast<size_t>(limit));
  return rows;
}

void MemoryTables::PutExperiment(const ExperimentRow& row) { Write(&experiments_, row.uid, row); }

std::vector<std::string> MemoryTables::Results(const std::string& tenant,
                                               const std::string& key) const {
  auto rows =
      Where(results_, [&](const ResultRow& row) { return row.tenant == tenant && row.key == key; });
  std::sort(rows.begin(), rows.end(), [](const ResultRow& a, const ResultRow& b) {
    return std::tie(b.recorded_us, a.job_uid) < std::tie(a.recorded_us, b.job_uid);
  });
  std::vector<std::string> uids;
  for (const ResultRow& row : rows) uids.push_back(row.job_uid);
  return uids;
}

void MemoryTables::PutResult(const ResultRow& row) {
  Write(&results_, {row.tenant, row.key, row.job_uid}, row);
}

}  // namespace liger::server
