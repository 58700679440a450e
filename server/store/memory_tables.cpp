#include "server/store/memory_tables.h"

#include <algorithm>
#include <utility>

#include "server/store/job_filter.h"
#include "server/store/memory_map.h"

namespace liger::server {
void MemoryTables::UndoTo(size_t mark) {
  while (undo_.size() > mark) {
    undo_.back()();
    undo_.pop_back();
  }
}

std::optional<JobRow> MemoryTables::Job(const std::string& uid) const { return Find(jobs_, uid); }

std::optional<JobRow> MemoryTables::JobByName(const std::string& tenant,
                                              const std::string& name) const {
  const auto uid = Find(names_, {tenant, name});
  return uid.has_value() ? Job(*uid) : std::nullopt;
}

absl::StatusOr<JobPage> MemoryTables::ListJobs(const JobQuery& query) const {
  const absl::StatusOr<PageToken> after = ParsePageToken(query.page_token);
  if (!after.ok()) return after.status();
  const absl::StatusOr<int32_t> size = PageSize(query.page_size);
  if (!size.ok()) return size.status();
  JobPage page;
  page.jobs = Where(jobs_, [&](const JobRow& job) {
    return job.tenant == query.tenant && job.deleted_us == 0 && Matches(query.filter, job) &&
           std::tie(job.created_us, job.uid) < std::tie(after->created_us, after->uid);
  });
  std::sort(page.jobs.begin(), page.jobs.end(), [](const JobRow& a, const JobRow& b) {
    return std::tie(a.created_us, a.uid) > std::tie(b.created_us, b.uid);
  });
  PageBudget budget;
  const auto end = std::find_if(page.jobs.begin(), page.jobs.end(),
                                [&](const JobRow& job) { return !budget.Takes(job); });
  const size_t fitting = std::min<size_t>(end - page.jobs.begin(), *size);
  if (page.jobs.size() > fitting) {
    page.jobs.resize(fitting);
    page.next_page_token = FormatPageToken({page.jobs.back().created_us, page.jobs.back().uid});
  }
  return page;
}

std::vector<JobRow> MemoryTables::ActiveJobs() const {
  auto jobs = Where(jobs_, [](const JobRow& job) { return !IsTerminal(job.state); });
  std::sort(jobs.begin(), jobs.end(), [](const JobRow& a, const JobRow& b) {
    return std::tie(a.created_us, a.uid) < std::tie(b.created_us, b.uid);
  });
  return jobs;
}

std::vector<JobRow> MemoryTables::ActiveJobsWithoutSpecs() const {
  std::vector<JobRow> jobs = ActiveJobs();
  for (JobRow& job : jobs) {
    job.spec.Clear();
    job.resolved_spec.Clear();
  }
  return jobs;
}

std::vector<std::pair<std::string, int64_t>> MemoryTables::RunningJobs() const {
  std::vector<std::pair<std::string, int64_t>> running;
  for (const auto& [uid, job] : jobs_) {
    if (job.state == liger::v1::JobStatus::RUNNING) running.emplace_back(uid, job.epoch);
  }
  return running;
}

std::vector<JobRow> MemoryTables::JobsByOutput(const std::string& tenant,
                                               const std::string& output) const {
  return Where(jobs_, [&](const JobRow& job) {
    return job.tenant == tenant && !job.output.empty() && job.output == output;
  });
}

std::vector<JobRow> MemoryTables::JobsBelowOutput(const std::string& tenant,
                                                  const std::string& output) const {
  return Where(jobs_, [&, folder = output + "/"](const JobRow& job) {
    return job.tenant == tenant && job.output.starts_with(folder);
  });
}

std::vector<JobRow> MemoryTables::JobsEndedSince(int64_t since_us) const {
  return Where(jobs_, [since_us](const JobRow& job) {
    return job.ended_us != 0 && job.ended_us >= since_us && job.deleted_us == 0;
  });
}

std::vector<std::pair<JobState, int64_t>> MemoryTables::CountJobs() const {
  std::map<JobState, int64_t> counts;
  for (const auto& [uid, job] : jobs_) {
    if (job.deleted_us == 0) ++counts[job.state];
  }
  return {counts.begin(), counts.end()};
}

std::vector<AttemptRow> MemoryTables::Attempts(const std::string& job_uid) const {
  auto rows = Where(attempts_, [&](const AttemptRow& row) { return row.job_uid == job_uid; });
  std::reverse(rows.begin(), rows.end());
  return rows;
}

std::optional<AttemptRow> MemoryTables::Attempt(const std::string& job_uid, int64_t epoch) const {
  return Find(attempts_, {job_uid, epoch});
}

std::vector<MemberRow> MemoryTables::Members(const std::string& job_uid, int64_t epoch) const {
  return Where(members_,
               [&](const MemberRow& row) { return row.job_uid == job_uid && row.epoch == epoch; });
}

std::vector<MemberRow> MemoryTables::UnreleasedMembers(const std::string& worker_id) const {
  return Where(members_, [&](const MemberRow& row) {
    return row.released_us == 0 && (worker_id.empty() || row.worker_id == worker_id);
  });
}

std::optional<TaskRow> MemoryTables::Task(const std::string& task_id) const {
  return Find(tasks_, task_id);
}

std::vector<TaskRow> MemoryTables::Tasks(const std::string& job_uid) const {
  return Where(tasks_, [&](const TaskRow& row) { return row.job_uid == job_uid; });
}

std::vector<TaskRow> MemoryTables::RunningTasks() const {
  return Where(tasks_, [](const TaskRow& row) { return row.state == TaskState::kRunning; });
}

std::optional<WorkerRow> MemoryTables::Worker(const std::string& worker_id) const {
  return Find(workers_, worker_id);
}

std::vector<WorkerRow> MemoryTables::Workers() const {
  return Where(workers_, [](const WorkerRow&) { return true; });
}

std::vector<liger::v1::JobEvent> MemoryTables::Events(const std::string& job_uid, int64_t after_seq,
                                                      int32_t limit) const {
  auto events = Where(events_, [&](const liger::v1::JobEvent& event) {
    return event.job_uid() == job_uid && event.seq() > after_seq;
  });
  KeepFirst(&events, limit);
  return events;
}

std::vector<liger::v1::JobEvent> MemoryTables::EventsSince(const std::string& tenant,
                                                           int64_t after_revision,
                                                           int32_t limit) const {
  auto events = Where(events_, [&](const liger::v1::JobEvent& event) {
    const std::optional<JobRow> job = Job(event.job_uid());
    return event.revision() > after_revision && job.has_value() && job->tenant == tenant;
  });
  std::sort(events.begin(), events.end(),
            [](const auto& a, const auto& b) { return a.revision() < b.revision(); });
  KeepFirst(&events, limit);
  return events;
}

int64_t MemoryTables::Revision() const { return Find(sequences_, "revision").value_or(0); }

std::optional<RequestRow> MemoryTables::Request(const std::string& tenant,
                                                const std::string& method,
                                                const std::string& request_id) const {
  return Find(requests_, {tenant, method, request_id});
}

std::vector<ArtifactRow> MemoryTables::Artifacts(const std::string& tenant,
                                                 const std::string& job_uid) const {
  auto rows = Where(artifacts_, [&](const ArtifactRow& row) {
    if (!job_uid.empty() && row.job_uid != job_uid) return false;
    const std::optional<JobRow> job = Job(row.job_uid);
    return job.has_value() && job->tenant == tenant && (!job_uid.empty() || job->deleted_us == 0);
  });
  std::sort(rows.begin(), rows.end(), [](const ArtifactRow& a, const ArtifactRow& b) {
    return std::tie(a.created_us, a.id) > std::tie(b.created_us, b.id);
  });
  return rows;
}

std::vector<ReclaimRow> MemoryTables::Reclaims(const std::string& worker_id) const {
  return Where(reclaims_, [&](const ReclaimRow& row) { return row.worker_id == worker_id; });
}

std::vector<MetricChunkRow> MemoryTables::MetricChunks(const std::string& job_uid, int64_t epoch,
                                                       int64_t from_step, int64_t to_step) const {
  return Where(chunks_, [&](const MetricChunkRow& row) {
    return row.job_uid == job_uid && row.epoch == epoch && row.last_step >= from_step &&
           (to_step == 0 || row.first_step <= to_step);
  });
}

int64_t MemoryTables::MetricsFromStep(const std::string& job_uid, int64_t epoch) const {
  const std::vector<MetricChunkRow> chunks = MetricChunks(job_uid, epoch, 0, 0);
  const auto first = std::ranges::min_element(chunks, {}, &MetricChunkRow::first_step);
  return first == chunks.end() ? 0 : first->first_step;
}

int64_t MemoryTables::MetricsThroughStep(const std::string& job_uid, int64_t epoch) const {
  int64_t through = 0;
  for (const MetricChunkRow& row : MetricChunks(job_uid, epoch, 0, 0)) {
    through = std::max(through, row.last_step);
  }
  return through;
}

std::vector<LogFileRow> MemoryTables::LogFiles(const std::string& job_uid) const {
  return Where(log_files_, [&](const LogFileRow& row) { return row.job_uid == job_uid; });
}

std::string MemoryTables::Meta(const std::string& key) const {
  return Find(meta_, key).value_or("");
}

int64_t MemoryTables::NextSequence(const std::string& name) {
  const int64_t next = Find(sequences_, name).value_or(0) + 1;
  Write(&sequences_, name, next);
  return next;
}

void MemoryTables::PutMeta(const std::string& key, const std::string& value) {
  Write(&meta_, key, value);
}

void MemoryTables::PutJob(const JobRow& row) {
  Write(&jobs_, row.uid, row);
  if (row.deleted_us == 0) {
    Write(&names_, {row.tenant, row.name}, row.uid);
  } else if (Find(names_, {row.tenant, row.name}) == row.uid) {
    Write(&names_, {row.tenant, row.name}, std::nullopt);
  }
}

// Matches() reads them from the spec.
void MemoryTables::PutLabels(const std::string& job_uid,
                             const std::map<std::string, std::string>& labels) {}

void MemoryTables::PutRequest(const RequestRow& row) {
  Write(&requests_, {row.tenant, row.method, row.request_id}, row);
}

void MemoryTables::DropRequestsBefore(int64_t expires_us) {
  for (const RequestRow& row :
       Where(requests_, [&](const RequestRow& row) { return row.expires_us <= expires_us; })) {
    Write(&requests_, {row.tenant, row.method, row.request_id}, std::nullopt);
  }
}

void MemoryTables::PutAttempt(const AttemptRow& row) {
  Write(&attempts_, {row.job_uid, row.epoch}, row);
}

void MemoryTables::PutMember(const MemberRow& row) {
  Write(&members_, {row.job_uid, row.epoch, row.node_rank}, row);
}

void MemoryTables::PutTask(const TaskRow& row) { Write(&tasks_, row.task_id, row); }

void MemoryTables::PutWorker(const WorkerRow& row) { Write(&workers_, row.worker_id, row); }

void MemoryTables::AddEvent(const liger::v1::JobEvent& event) {
  Write(&events_, {event.job_uid(), event.seq()}, event);
}

void MemoryTables::PutArtifact(const ArtifactRow& row) { Write(&artifacts_, row.id, row); }

void MemoryTables::DropArtifact(const std::string& id) { Write(&artifacts_, id, std::nullopt); }

void MemoryTables::PutReclaim(const ReclaimRow& row) {
  Write(&reclaims_, {row.worker_id, row.uri}, row);
}

void MemoryTables::DropReclaim(const ReclaimRow& row) {
  const std::optional<ReclaimRow> known = Find(reclaims_, {row.worker_id, row.uri});
  if (!known.has_value() || known->digest != row.digest) return;
  Write(&reclaims_, {row.worker_id, row.uri}, std::nullopt);
}

void MemoryTables::AddMetricChunk(const MetricChunkRow& row) {
  Write(&chunks_, {row.job_uid, row.epoch, row.first_step}, row);
}

void MemoryTables::PutLogFile(const LogFileRow& row) {
  Write(&log_files_, {row.job_uid, row.epoch, row.rank}, row);
}

std::vector<std::string> MemoryTables::JobsWithOldBulk(int64_t ended_before_us) const {
  std::vector<std::string> uids;
  for (const auto& [uid, job] : jobs_) {
    const bool old = job.deleted_us != 0 || (job.ended_us != 0 && job.ended_us < ended_before_us);
    const bool has_chunks = std::any_of(chunks_.begin(), chunks_.end(), [&uid](const auto& entry) {
      return entry.second.job_uid == uid;
    });
    if (old && (has_chunks || !LogFiles(uid).empty())) uids.push_back(uid);
  }
  return uids;
}

void MemoryTables::DropBulk(const std::string& job_uid) {
  for (const MetricChunkRow& row :
       Where(chunks_, [&](const MetricChunkRow& row) { return row.job_uid == job_uid; })) {
    Write(&chunks_, {row.job_uid, row.epoch, row.first_step}, std::nullopt);
  }
  for (const LogFileRow& row : LogFiles(job_uid)) {
    Write(&log_files_, {row.job_uid, row.epoch, row.rank}, std::nullopt);
  }
}

}  // namespace liger::server
