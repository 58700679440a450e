#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/api/fine_tuning_service.h"
#include "server/api/reply.h"
#include "server/store/attempts.h"

namespace liger::server {
namespace {

constexpr int kDefaultJobs = 50;
constexpr int kMostJobs = 500;
constexpr size_t kMaxRequestId = 128;

liger::v1::CreateJobResponse ToResponse(JobService::SubmitResult result) {
  liger::v1::CreateJobResponse response;
  *response.mutable_job() = std::move(result.job);
  response.mutable_notices()->Assign(result.notices.begin(), result.notices.end());
  response.mutable_checks_run()->Assign(result.checks_run.begin(), result.checks_run.end());
  response.mutable_checks_skipped()->Assign(result.checks_skipped.begin(),
                                            result.checks_skipped.end());
  return response;
}

// A CreateJob call under way. When its client goes, or the server's patience
// ends, the call ends at once and its check is given up. Owns itself until gRPC
// is done with it; the answer to come holds it for longer.
class CreateCall : public grpc::ServerUnaryReactor,
                   public std::enable_shared_from_this<CreateCall> {
 public:
  explicit CreateCall(liger::v1::CreateJobResponse* response) : response_(response) {}

  // Call once, when a shared pointer to the object exists.
  void Hold() { self_ = shared_from_this(); }

  // Only the first answer counts: after it `response_` is gRPC's.
  void Answer(absl::StatusOr<JobService::SubmitResult> result) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(answered_, true)) return;
    if (result.ok()) *response_ = ToResponse(*std::move(result));
    Finish(ToGrpc(result.status()));
  }

  void SetGiveUp(std::function<void()> give_up) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      if (!cancelled_) {
        give_up_ = std::move(give_up);
        return;
      }
    }
    give_up();
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(mutex_) {
    Answer(absl::CancelledError("the client went away"));
    std::function<void()> give_up;
    {
      absl::MutexLock lock(&mutex_);
      cancelled_ = true;
      give_up.swap(give_up_);
    }
    if (give_up) give_up();
  }

  void OnDone() override { self_.reset(); }  // may delete this

 private:
  liger::v1::CreateJobResponse* const response_;
  absl::Mutex mutex_;
  bool answered_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> give_up_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<CreateCall> self_;
};

absl::Status CheckCreate(const liger::v1::CreateJobRequest& request) {
  if (!request.has_spec()) return InvalidArgument("spec", "must be set");
  if (request.request_id().size() > kMaxRequestId) {
    return InvalidArgument("request_id", "must have at most 128 characters");
  }
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* FineTuningService::CreateJob(grpc::CallbackServerContext* context,
                                                       const liger::v1::CreateJobRequest* request,
                                                       liger::v1::CreateJobResponse* response) {
  if (absl::Status status = CheckCreate(*request); !status.ok()) return Refuse(context, status);
  const Principal principal = PrincipalOf(*context);
  JobService::SubmitRequest submit{principal.tenant, ActorOf(principal), request->spec(),
                                   request->request_id()};
  auto call = std::make_shared<CreateCall>(response);
  call->Hold();
  auto done = [call](absl::StatusOr<JobService::SubmitResult> result) {
    call->Answer(std::move(result));
  };
  if (request->validate_only()) {
    call->SetGiveUp(b_.jobs->Validate(std::move(submit), done));
  } else {
    b_.jobs->Submit(std::move(submit), done);
  }
  return call.get();
}

grpc::ServerUnaryReactor* FineTuningService::CancelJob(grpc::CallbackServerContext* context,
                                                       const liger::v1::CancelJobRequest* request,
                                                       liger::v1::Job* response) {
  if (absl::Status s = CheckJobField(request->job()); !s.ok()) return Refuse(context, s);
  const Principal principal = PrincipalOf(*context);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.jobs->Cancel(principal.tenant, ActorOf(principal), request->job(), request->reason(),
                  ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::DeleteJob(grpc::CallbackServerContext* context,
                                                       const liger::v1::DeleteJobRequest* request,
                                                       liger::v1::DeleteJobResponse* response) {
  if (absl::Status s = CheckJobField(request->job()); !s.ok()) return Refuse(context, s);
  const Principal principal = PrincipalOf(*context);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.jobs->Delete(principal.tenant, ActorOf(principal), request->job(), request->delete_output(),
                  [reactor, logs = b_.logs, files = b_.files](
                      const absl::StatusOr<liger::server::DeleteJob::Result>& result) {
                    if (result.ok()) {
                      files->Run([logs, uid = result->job_uid] { (void)logs->Remove(uid); });
                    }
                    reactor->Finish(ToGrpc(result.status()));
                  });
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::GetJob(grpc::CallbackServerContext* context,
                                                    const liger::v1::GetJobRequest* request,
                                                    liger::v1::Job* response) {
  if (absl::Status s = CheckJobField(request->job()); !s.ok()) return Refuse(context, s);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.store->Read<liger::v1::Job>(
      [tenant = PrincipalOf(*context).tenant, job = request->job(),
       fleet = b_.fleet](const ReadView& view) -> absl::StatusOr<liger::v1::Job> {
        absl::StatusOr<JobRow> row = FindJob(view, tenant, job);
        if (!row.ok()) return row.status();
        liger::v1::Job found = ToProto(view, *row);
        if (row->state != liger::v1::JobStatus::RUNNING) return found;
        if (const auto idle = fleet->IdleTime(TrainRef(row->uid, row->epoch))) {
          found.mutable_status()->mutable_progress()->set_idle_seconds(
              absl::ToDoubleSeconds(*idle));
        }
        return found;
      },
      ReplyTo(reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* FineTuningService::ListJobs(grpc::CallbackServerContext* context,
                                                      const liger::v1::ListJobsRequest* request,
                                                      liger::v1::ListJobsResponse* response) {
  absl::StatusOr<int> page_size = PageSize(request->page_size(), kDefaultJobs, kMostJobs);
  if (!page_size.ok()) return Refuse(context, page_size.status());
  absl::StatusOr<JobFilter> filter = ParseJobFilter(request->filter());
  if (!filter.ok()) return Refuse(context, filter.status());
  JobQuery query{PrincipalOf(*context).tenant, *std::move(filter), *page_size,
                 request->page_token()};
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  b_.store->Read<liger::v1::ListJobsResponse>(
      [query =
           std::move(query)](const ReadView& view) -> absl::StatusOr<liger::v1::ListJobsResponse> {
        absl::StatusOr<JobPage> page = view.ListJobs(query);
        if (!page.ok()) return page.status();
        liger::v1::ListJobsResponse list;
        for (const JobRow& row : page->jobs) *list.add_jobs() = ToProto(view, row);
        list.set_next_page_token(page->next_page_token);
        return list;
      },
      ReplyTo(reactor, response));
  return reactor;
}

}  // namespace liger::server
