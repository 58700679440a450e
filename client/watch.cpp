#include "client/watch.h"

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/errors.h"
#include "client/format.h"
#include "client/interrupt.h"
#include "client/outage.h"
#include "client/worker_names.h"

namespace liger::client {
namespace {

using liger::v1::Job;
using liger::v1::JobStatus;

// One job being followed, over as many streams as it takes.
class Follower {
 public:
  Follower(Connection& connection, const std::string& job, double timeout_seconds,
           const Screen& screen, const std::function<bool(const Job&)>& until)
      : connection_(connection),
        until_(until),
        timeout_seconds_(timeout_seconds),
        deadline_(timeout_seconds > 0 ? absl::Now() + absl::Seconds(timeout_seconds)
                                      : absl::InfiniteFuture()),
        screen_(screen),
        display_(screen) {
    request_.set_job(job);
  }

  Followed Run() {
    while (true) {
      const absl::Time began = absl::Now();
      heard_ = false;
      const grpc::Status status = ReadStream();
      display_.Finish();
      const JobStatus::State state = last_.status().state();
      if (IsTerminal(state)) {
        screen_.out << Outcome(shown_, screen_.columns()) << std::flush;
        return {ExitCodeFor(state), last_};
      }
      if (IsFarEnough()) return {kOk, last_};
      if (guard_.interrupted()) return Leave(kInterrupted, "detached; the job goes on");
      if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
        return Leave(kTimedOut, absl::StrCat("the job did not end within ",
                                             Duration(timeout_seconds_), "; it goes on"));
      }
      if (!Resumable(status) || outage_.StreamFailed(began, heard_, absl::Now())) {
        connection_.Check(status);
      }
      guard_.Sleep(std::min(absl::Milliseconds(300), deadline_ - absl::Now()));
      AwaitConnection(*connection_.channel(), absl::Milliseconds(300));
    }
  }

 private:
  bool IsFarEnough() const { return until_ && !last_.uid().empty() && until_(last_); }

  // Until the stream ends or the job has.
  grpc::Status ReadStream() {
    grpc::ClientContext context;
    if (deadline_ != absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline_));
    guard_.Attach(&context);
    absl::Cleanup detach = [this] { guard_.Detach(); };
    auto reader = connection_.stub().WatchJobs(&context, request_);
    liger::v1::WatchJobsResponse update;
    while (reader->Read(&update)) {
      heard_ = true;
      last_ = update.job();
      request_.set_from_revision(update.revision());
      NameWorkers(&update);
      display_.Update(update);
      if (!IsTerminal(last_.status().state()) && !IsFarEnough()) continue;
      context.TryCancel();
      break;
    }
    return reader->Finish();
  }

  // Workers come and go while a job waits, so their names are asked for again
  // with each new message.
  void NameWorkers(liger::v1::WatchJobsResponse* update) {
    const std::string& message = update->job().status().message();
    if (message != named_for_) {
      named_for_ = message;
      names_ = WorkerNames::Of(connection_);
    }
    names_.PutInto(update->mutable_job()->mutable_status());
    shown_ = update->job();
  }

  // Whether to watch again, and from where.
  bool Resumable(const grpc::Status& status) {
    if (status.error_code() == grpc::StatusCode::OUT_OF_RANGE) {
      // A coordinator whose store was restored to before what was seen here.
      if (ReasonOf(status) == "REVISION_UNKNOWN") request_.set_from_revision(0);
      heard_ = true;
      return true;
    }
    if (CoordinatorAway(status)) {
      if (!last_.uid().empty()) return true;
      if (!MayAnswerLater(status)) return false;
      connection_.SayAwaited();
      return true;
    }
    return status.ok();
  }

  Followed Leave(ExitCode code, const std::string& why) {
    const std::string& name = last_.name().empty() ? request_.job() : last_.name();
    screen_.out << why << ". See it again: liger-cli watch " << name << "\n" << std::flush;
    return {code, last_};
  }

  Connection& connection_;
  const std::function<bool(const Job&)>& until_;
  const double timeout_seconds_;
  const absl::Time deadline_;
  const Screen& screen_;
  JobDisplay display_;
  InterruptGuard guard_;
  Outage outage_;
  liger::v1::WatchJobsRequest request_;
  WorkerNames names_;
  std::string named_for_;
  Job last_;
  Job shown_;  // the same, with the workers' names
  bool heard_ = false;
};

}  // namespace

Followed FollowJob(Connection& connection, const std::string& job, double timeout_seconds,
                   const Screen& screen, const std::function<bool(const Job&)>& until) {
  return Follower(connection, job, timeout_seconds, screen, until).Run();
}

}  // namespace liger::client
