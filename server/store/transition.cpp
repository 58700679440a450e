#include "server/store/transition.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace liger::server {

absl::Status Transaction::SetJobState(JobRow* job, JobState to, const Why& why) {
  if (!IsLegalTransition(job->state, to)) {
    return absl::InternalError(absl::StrCat(
        "job ", job->name, ": no transition from ", liger::v1::JobStatus::State_Name(job->state),
        " to ", liger::v1::JobStatus::State_Name(to), " (", why.reason, ")"));
  }
  liger::v1::JobEvent event;
  event.set_type("StateChanged");
  event.set_from_state(job->state);
  event.set_to_state(to);
  event.set_reason(why.reason);
  event.set_message(why.message);

  job->state = to;
  job->state_since_us = now_us_;
  job->reason = why.reason;
  job->status.set_message(why.message);
  job->status.set_action(why.action);
  if (to == liger::v1::JobStatus::RUNNING && job->started_us == 0) job->started_us = now_us_;
  if (IsTerminal(to)) job->ended_us = now_us_;
  Record(job, std::move(event));
  return absl::OkStatus();
}

void Transaction::SaveJob(JobRow* job) { Record(job, std::nullopt); }

void Transaction::AddEvent(JobRow* job, const std::string& type, const Why& why) {
  liger::v1::JobEvent event;
  event.set_type(type);
  event.set_from_state(job->state);
  event.set_to_state(job->state);
  event.set_reason(why.reason);
  event.set_message(why.message);
  Record(job, std::move(event));
}

void Transaction::Record(JobRow* job, std::optional<liger::v1::JobEvent> event) {
  job->revision = tables_.NextSequence("revision");
  job->updated_us = now_us_;
  if (event.has_value()) {
    event->set_job_uid(job->uid);
    event->set_seq(++job->last_event_seq);
    event->set_revision(job->revision);
    *event->mutable_time() = ToTimestamp(now_us_);
    event->set_actor(actor_);
    tables_.AddEvent(*event);
  }
  tables_.PutJob(*job);
  changes_.push_back({job->uid, std::move(event), job->revision});
}

std::vector<JobChange> Transaction::TakeChanges() {
  std::map<std::string, std::shared_ptr<const liger::v1::Job>> jobs;
  std::vector<JobChange> out;
  for (Change& change : changes_) {
    std::shared_ptr<const liger::v1::Job>& job = jobs[change.job_uid];
    if (job == nullptr) {
      const std::optional<JobRow> row = tables_.Job(change.job_uid);
      if (!row.has_value()) continue;  // the storage failed; the commit will say so
      job = std::make_shared<const liger::v1::Job>(ToProto(tables_, *row));
    }
    out.push_back({job, std::move(change.event), change.revision});
  }
  changes_.clear();
  return out;
}

}  // namespace liger::server
