#include "server/api/watch_stream.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/api/status.h"
#include "server/errors/errors.h"

namespace liger::server {
namespace {

using liger::v1::JobEvent;
using liger::v1::WatchJobsResponse;

// Messages given to gRPC but not written yet; the rest waits in the stream.
constexpr size_t kQueuedResponses = 4;
constexpr int kPageSize = 100;

WatchJobsResponse ToResponse(const JobChange& change) {
  WatchJobsResponse response;
  *response.mutable_job() = *change.job;
  if (change.event.has_value()) *response.mutable_event() = *change.event;
  response.set_revision(change.revision);
  return response;
}

WatchJobsResponse StateOf(const ReadView& view, const JobRow& row) {
  WatchJobsResponse response;
  *response.mutable_job() = ToProto(view, row);
  return response;
}

}  // namespace

WatchStream::WatchStream(Store* store, ChangeHub* hub, std::string tenant,
                         const liger::v1::WatchJobsRequest& request)
    : QueuedWriter(kQueuedResponses),
      store_(store),
      hub_(hub),
      tenant_(std::move(tenant)),
      job_(request.job()),
      from_revision_(request.from_revision()),
      resume_revision_(request.from_revision()) {}

void WatchStream::Begin() {
  Hold();
  // Subscribed before the first read: whatever commits after that read's
  // snapshot arrives here.
  const int64_t id =
      hub_->Add([weak = std::weak_ptr<WatchStream>(Self())](const std::vector<JobChange>& changes) {
        if (const auto self = weak.lock()) self->OnChanges(changes);
      });
  {
    absl::MutexLock lock(&state_mutex_);
    subscription_ = id;
    reading_ = true;
  }
  ReadPage("", from_revision_);
}

void WatchStream::End(const absl::Status& status) { Close(ToGrpc(status)); }

void WatchStream::OnFinished() {
  absl::MutexLock lock(&state_mutex_);
  hub_->Remove(subscription_);
}

// ---- catching up

void WatchStream::ReadPage(std::string page_token, int64_t after_revision) {
  store_->Read<Page>(
      [tenant = tenant_, job = job_, page_token = std::move(page_token),
       after_revision](const ReadView& view) {
        return after_revision == 0 ? StatePage(view, tenant, job, page_token)
                                   : EventsPage(view, tenant, job, after_revision);
      },
      [self = Self()](absl::StatusOr<Page> page) { self->OnPage(std::move(page)); });
}

absl::StatusOr<WatchStream::Page> WatchStream::StatePage(const ReadView& view,
                                                         const std::string& tenant,
                                                         const std::string& job,
                                                         const std::string& page_token) {
  Page page;
  page.revision = view.Revision();
  if (!job.empty()) {
    absl::StatusOr<JobRow> row = FindJob(view, tenant, job);
    if (!row.ok()) return row.status();
    page.job_uid = row->uid;
    page.responses.push_back(StateOf(view, *row));
    page.responses.back().set_revision(page.revision);
    return page;
  }
  JobQuery query;
  query.tenant = tenant;
  query.page_size = kPageSize;
  query.page_token = page_token;
  absl::StatusOr<JobPage> jobs = view.ListJobs(query);
  if (!jobs.ok()) return jobs.status();
  // No revision but on the list's last message: a client that was cut off
  // before it must begin again.
  for (const JobRow& row : jobs->jobs) page.responses.push_back(StateOf(view, row));
  page.next_page_token = jobs->next_page_token;
  return page;
}

absl::StatusOr<WatchStream::Page> WatchStream::EventsPage(const ReadView& view,
                                                          const std::string& tenant,
                                                          const std::string& job,
                                                          int64_t after_revision) {
  Page page;
  page.revision = view.Revision();
  if (after_revision > page.revision) {
    return ErrorWithReason(absl::StatusCode::kOutOfRange, "REVISION_UNKNOWN",
                           absl::StrCat("revision ", after_revision,
                                        " is not reached yet; the "
                                        "newest is ",
                                        page.revision),
                           {{"revision", absl::StrCat(page.revision)}});
  }
  if (!job.empty()) {
    absl::StatusOr<JobRow> row = FindJob(view, tenant, job);
    if (!row.ok()) return row.status();
    page.job_uid = row->uid;
  }
  const std::vector<JobEvent> events = view.EventsSince(tenant, after_revision, kPageSize);
  std::map<std::string, std::optional<JobRow>> rows;
  for (const JobEvent& event : events) {
    if (!page.job_uid.empty() && event.job_uid() != page.job_uid) continue;
    auto [it, inserted] = rows.try_emplace(event.job_uid());
    if (inserted) it->second = view.Job(event.job_uid());
    WatchJobsResponse response;
    if (it->second.has_value()) *response.mutable_job() = ToProto(view, *it->second);
    *response.mutable_event() = event;
    response.set_revision(event.revision());
    page.responses.push_back(std::move(response));
  }
  if (events.size() == kPageSize) page.next_revision = events.back().revision();
  // Progress since the revision has no event; the job itself shows it.
  if (page.next_revision == 0 && !page.job_uid.empty()) {
    const std::optional<JobRow> row = view.Job(page.job_uid);
    const int64_t known =
        page.responses.empty() ? after_revision : page.responses.back().revision();
    if (row.has_value() && row->revision > known) {
      page.responses.push_back(StateOf(view, *row));
      page.responses.back().set_revision(page.revision);
    }
  }
  return page;
}

void WatchStream::OnPage(absl::StatusOr<Page> page) {
  if (!page.ok()) return Close(ToGrpc(page.status()));
  {
    absl::MutexLock lock(&state_mutex_);
    const bool first_state_page = from_revision_ == 0 && caught_up_to_ == 0;
    if (first_state_page || from_revision_ != 0) caught_up_to_ = page->revision;
    job_uid_ = page->job_uid;
    for (WatchJobsResponse& response : page->responses) {
      // A later page is read from a newer snapshot.
      if (!first_state_page && from_revision_ == 0) newer_[response.job().uid()] = page->revision;
      page_.push_back(std::move(response));
    }
    next_page_token_ = page->next_page_token;
    next_revision_ = page->next_revision;
    reading_ = false;
    if (next_page_token_.empty() && next_revision_ == 0) {
      caught_up_ = true;
      if (from_revision_ == 0 && !page_.empty()) page_.back().set_revision(caught_up_to_);
    }
  }
  Pump();
}

// ---- live

void WatchStream::OnChanges(const std::vector<JobChange>& changes) {
  {
    absl::MutexLock lock(&state_mutex_);
    if (live_.size() > kMaxBehind) DropSuperseded();
    const bool behind = live_.size() > kMaxBehind;
    for (const JobChange& change : changes) OnChange(change);
    if (behind) {
      live_.clear();
      page_.clear();
      caught_up_ = true;
      // Ends after what gRPC has already, so the client misses nothing.
      Close(ToGrpc(TooSlow()));
      return;
    }
  }
  Pump();
}

void WatchStream::OnChange(const JobChange& change) {
  if (change.job == nullptr || change.job->tenant() != tenant_) return;
  if (!job_.empty()) {
    // Before the first page the uid is not known, but what is asked for is.
    const bool matches = job_uid_.empty() ? job_ == change.job->uid() || job_ == change.job->name()
                                          : job_uid_ == change.job->uid();
    if (!matches) return;
  }
  live_.push_back(change);
}

void WatchStream::DropSuperseded() {
  std::set<std::string> seen;
  std::deque<JobChange> kept;
  for (auto change = live_.rbegin(); change != live_.rend(); ++change) {
    const bool newest = seen.insert(change->job->uid()).second;
    if (newest || change->event.has_value()) kept.push_front(std::move(*change));
  }
  live_ = std::move(kept);
}

absl::Status WatchStream::TooSlow() const {
  return ErrorWithReason(
      absl::StatusCode::kOutOfRange, "WATCH_TOO_SLOW",
      absl::StrCat("the watcher reads more slowly than jobs change; watch again from revision ",
                   resume_revision_),
      {{"resume_revision", absl::StrCat(resume_revision_)}});
}

void WatchStream::Pump() {
  std::string page_token;
  int64_t after_revision = 0;
  {
    absl::MutexLock lock(&state_mutex_);
    if (reading_) return;
    while (!page_.empty()) {
      if (!Send(page_.front())) return;
      if (page_.front().revision() > 0) resume_revision_ = page_.front().revision();
      page_.pop_front();
    }
    if (caught_up_) {
      for (; !live_.empty(); live_.pop_front()) {
        const JobChange& next = live_.front();
        const auto newer = newer_.find(next.job->uid());
        const int64_t known = newer == newer_.end() ? caught_up_to_ : newer->second;
        if (next.revision <= known) continue;
        if (queued() >= kQueuedResponses || !Send(ToResponse(next))) return;
        resume_revision_ = next.revision;
      }
      return;
    }
    reading_ = true;
    page_token = next_page_token_;
    after_revision = next_revision_;
  }
  ReadPage(std::move(page_token), after_revision);
}

}  // namespace liger::server
